//! What is retained, streamed to transient sessions in slices. A request is answered with one slice at most: for the
//! next one the worker asks again, once its client has room.

use crate::base::ids::Incarnation;
use crate::base::limits::{
    REQUESTS_WAITING_MAX, RETAINED_SLICE_BYTES, RETAINED_SLICE_MESSAGES, RETAINED_SLICES_PER_TURN,
    RETAINED_STEPS_PER_TURN,
};
use crate::directory::ClaimKey;
use crate::ipc::mesh::{Heads, Message, ToWorker};
use crate::retained::{Walk, Want};
use crate::ring::{Cx, Mesh};

use super::{Store, applied, applied_heads};

/// A request that is not answered. All it keeps is how far it came.
pub(super) struct Request {
    pub key: ClaimKey,
    pub request: u32,
    pub heads: Heads,
    pub filter: Box<str>,
    pub after: Option<Box<str>>,
}

impl Store {
    pub(super) fn retained_request<M: Mesh>(&mut self, request: Request, cx: &mut Cx<'_, M>) {
        let key = request.key;
        if self.directory.held_by(key).is_none() {
            return;
        }
        let running = self.requests_of.entry(key.member).or_insert(0);
        if *running >= REQUESTS_WAITING_MAX {
            return self.warn(key.member, key.incarnation, "too many requests", cx);
        }
        *running += 1;
        self.requests.push_back(request);
    }

    /// The worker died: nobody waits for these.
    pub(super) fn forget_requests(&mut self, incarnation: Incarnation) {
        let requests_of = &mut self.requests_of;
        self.requests.retain(|request| {
            let stays = request.key.incarnation != incarnation;
            if !stays {
                ended(requests_of, request);
            }
            stays
        });
    }

    /// A slice for each request in turn, as long as the outbox has room.
    pub(super) fn stream_retained<M: Mesh>(&mut self, cx: &mut Cx<'_, M>) {
        let mut slices = 0;
        let mut steps = RETAINED_STEPS_PER_TURN;
        for _ in 0..self.requests.len() {
            if cx.mesh.overflow_bytes() > 0 {
                return self.look_again_soon(cx.now);
            }
            if slices >= RETAINED_SLICES_PER_TURN || steps == 0 {
                self.again = true;
                return;
            }
            let Some(mut request) = self.requests.pop_front() else {
                return;
            };
            // The connection may be over.
            if self.directory.held_by(request.key).is_none() {
                ended(&mut self.requests_of, &request);
                continue;
            }
            if !applied(&request.heads, cx.mesh) {
                self.requests.push_back(request);
                self.look_again_soon(cx.now);
                continue;
            }
            match self.send_slice(&mut request, &mut steps, cx) {
                Sent::EmptySlice => ended(&mut self.requests_of, &request),
                Sent::Slice => {
                    ended(&mut self.requests_of, &request);
                    slices += 1;
                }
                Sent::Nothing => {
                    self.requests.push_back(request);
                    self.again = true;
                    slices += 1;
                }
            }
        }
    }

    fn send_slice<M: Mesh>(
        &mut self,
        request: &mut Request,
        steps: &mut usize,
        cx: &mut Cx<'_, M>,
    ) -> Sent {
        let mut messages: Vec<Message<'_>> = Vec::new();
        let (mut bytes, mut last) = (0, None);
        let after = request.after.as_deref();
        // Whatever it finds, a look costs something.
        *steps = steps.saturating_sub(1);
        let walk = self
            .retained
            .walk(&request.filter, after, steps, &mut last, |kept| {
                let message = &kept.message;
                if kept.expires_at.is_some_and(|at| at <= cx.now) {
                    return Want::More;
                }
                messages.push(message.as_message(message.qos, true));
                bytes += message.bytes();
                if bytes >= RETAINED_SLICE_BYTES || messages.len() >= RETAINED_SLICE_MESSAGES {
                    return Want::Enough;
                }
                Want::More
            });
        let is_empty = messages.is_empty();
        let is_last = walk == Walk::Done;
        if is_last || !is_empty {
            let slice = ToWorker::RetainedSlice {
                claim: request.key.serial,
                request: request.request,
                last: is_last,
                positions: applied_heads(cx.mesh),
                messages,
            };
            slice.append(cx.mesh, request.key.member, &mut self.scratch);
        }
        if !is_empty {
            return Sent::Slice;
        }
        if is_last {
            return Sent::EmptySlice;
        }
        // Without a step it has not moved.
        if let Some(last) = last {
            request.after = Some(last.into());
        }
        Sent::Nothing
    }
}

enum Sent {
    Slice,
    /// There is nothing behind the last slice.
    EmptySlice,
    /// The search goes on.
    Nothing,
}

fn ended(
    requests_of: &mut std::collections::BTreeMap<crate::base::ids::MemberId, usize>,
    request: &Request,
) {
    if let Some(running) = requests_of.get_mut(&request.key.member) {
        *running = running.saturating_sub(1);
    }
}
