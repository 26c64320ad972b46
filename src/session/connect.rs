//! Whether a CONNECT is let in, and on which terms.

use crate::config::{Config, Listener};
use crate::mqtt::{Connect, Property, Qos, Reason, Version};

/// The terms on which a client is let in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Admission {
    /// The client id is to be assigned by the broker.
    pub assign_id: bool,
    /// Seconds that the session outlives the connection; `u32::MAX` is for ever.
    pub expiry: u32,
    /// QoS 1 and 2 messages that may be unacknowledged towards the client.
    pub receive_maximum: u16,
    /// The session ends earlier than the client asked for: it must be told (5.0).
    pub expiry_changed: bool,
    /// The largest packet that the client takes.
    pub packet_bytes_max: u32,
    /// Topic aliases that the broker may set towards the client [MQTT-3.3.2-11].
    pub topic_alias_maximum: u16,
    /// Whether the client wants reason strings wherever they may be [MQTT-3.1.2-29].
    pub problem_information: bool,
    /// Keep-alive in force, and whether the client must be told (5.0) because it asked for another.
    pub keep_alive: u16,
    pub keep_alive_changed: bool,
    /// Seconds between the loss of the connection and the will.
    pub will_delay: u32,
    /// The user name takes the place of the client id.
    pub id_is_username: bool,
    /// What the client may do.
    pub terms: Terms,
}

/// What a client may do, as CONNACK tells it in 5.0. It holds as long as the connection, whatever is configured
/// meanwhile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Terms {
    /// The largest QoS [MQTT-3.2.2-11].
    pub qos_max: Qos,
    /// The largest packet [MQTT-3.2.2-15].
    pub packet_bytes_max: u32,
    /// Topic aliases that it may set [MQTT-3.3.2-9].
    pub topic_alias_max: u16,
    /// QoS 2 messages (in 5.0, of QoS 1 too) that may be unacknowledged [MQTT-3.3.4-9].
    pub receive_maximum: u16,
    /// Subscriptions; `u32::MAX` is no limit.
    pub subscriptions_max: u32,
}

impl Terms {
    /// Before CONNECT nothing else may come; this is for the fields that wait for it.
    pub const STRANGER: Self = Self {
        qos_max: Qos::ExactlyOnce,
        packet_bytes_max: u32::MAX,
        topic_alias_max: 0,
        receive_maximum: u16::MAX,
        subscriptions_max: u32::MAX,
    };

    /// Those of a client of `listener` that comes now.
    pub fn now(listener: &Listener, config: &Config) -> Self {
        Self {
            qos_max: Qos::from_bits(listener.max_qos).unwrap_or_default(),
            packet_bytes_max: config.max_packet_size,
            topic_alias_max: listener.max_topic_alias,
            receive_maximum: config.max_inflight_messages,
            subscriptions_max: config.max_subscriptions,
        }
    }
}

/// Why a CONNECT is refused. In 3.x the code is translated; `None` closes without an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refusal {
    pub reason: Reason,
    /// For the log.
    pub what: &'static str,
}

const fn refuse<T>(reason: Reason, what: &'static str) -> Result<T, Refusal> {
    Err(Refusal { reason, what })
}

/// Decides on a CONNECT that was decoded without error.
///
/// # Errors
/// A [`Refusal`] with the reason code for CONNACK.
pub fn admit(
    connect: &Connect<'_>,
    listener: &Listener,
    config: &Config,
) -> Result<Admission, Refusal> {
    let version = connect.version;
    check_version(version, listener)?;
    if !listener.allow_anonymous.unwrap_or(config.allow_anonymous) {
        // No password file can be configured yet, so that nobody can prove who he is.
        return refuse(Reason::NotAuthorized, "not authorised");
    }
    let mut terms = Admission {
        id_is_username: listener.use_username_as_clientid,
        terms: Terms::now(listener, config),
        assign_id: connect.client_id.is_empty(),
        expiry: if connect.clean_start { 0 } else { u32::MAX },
        receive_maximum: u16::MAX,
        expiry_changed: false,
        packet_bytes_max: u32::MAX,
        topic_alias_maximum: 0,
        problem_information: true,
        keep_alive: connect.keep_alive,
        keep_alive_changed: false,
        will_delay: 0,
    };
    if terms.assign_id {
        check_empty_id(connect, config)?;
    }
    let id = if listener.use_username_as_clientid {
        // original: the same answer, to an empty user name too.
        match connect.username {
            None | Some("") => return refuse(Reason::NotAuthorized, "no user name"),
            Some(name) => name,
        }
    } else {
        connect.client_id
    };
    check_id(id, config)?;
    if version == Version::V5 {
        terms.expiry = 0;
        read_properties(connect, &mut terms)?;
    }
    terms.topic_alias_maximum = terms
        .topic_alias_maximum
        .min(listener.max_topic_alias_broker);
    terms.receive_maximum = terms.receive_maximum.min(config.max_inflight_messages);
    // A client of 3.x was promised nothing, so that its session always follows the limit as it is then.
    if let (Some(limit), Version::V5) = (config.persistent_client_expiration, version) {
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        terms.expiry_changed = terms.expiry > limit;
        terms.expiry = terms.expiry.min(limit);
    }
    check_keep_alive(config, version, &mut terms)?;
    check_will(connect, listener, config, &mut terms)?;
    Ok(terms)
}

fn check_version(version: Version, listener: &Listener) -> Result<(), Refusal> {
    let accepted = match version {
        Version::V31 => listener.versions.v31,
        Version::V311 => listener.versions.v311,
        Version::V5 => listener.versions.v5,
    };
    if accepted {
        return Ok(());
    }
    refuse(
        Reason::UnsupportedProtocolVersion,
        "protocol version not accepted here",
    )
}

/// An id that the broker is to assign is empty here, and has no prefix to show [original: the same].
fn check_id(id: &str, config: &Config) -> Result<(), Refusal> {
    match &config.clientid_prefixes {
        Some(prefix) if !id.starts_with(prefix.as_str()) => {
            refuse(Reason::NotAuthorized, "client id without the prefix")
        }
        _ => Ok(()),
    }
}

/// Whether a client that was let in before would be let in now by what an operator changes to keep clients out.
///
/// # Errors
/// What it would be refused for.
pub fn admit_again(
    version: Version,
    client_id: &str,
    listener: &Listener,
    config: &Config,
) -> Result<(), Refusal> {
    check_version(version, listener)?;
    check_id(client_id, config)
}

fn check_empty_id(connect: &Connect<'_>, config: &Config) -> Result<(), Refusal> {
    let allowed = match connect.version {
        Version::V31 => false,
        // [MQTT-3.1.3-8]
        Version::V311 => connect.clean_start && config.allow_zero_length_clientid,
        Version::V5 => config.allow_zero_length_clientid,
    };
    if allowed {
        Ok(())
    } else {
        refuse(Reason::ClientIdNotValid, "empty client identifier")
    }
}

fn read_properties(connect: &Connect<'_>, terms: &mut Admission) -> Result<(), Refusal> {
    for property in connect.properties.iter() {
        match property {
            Property::SessionExpiryInterval(seconds) => terms.expiry = seconds,
            Property::ReceiveMaximum(messages) => terms.receive_maximum = messages,
            Property::MaximumPacketSize(bytes) => terms.packet_bytes_max = bytes,
            Property::TopicAliasMaximum(aliases) => terms.topic_alias_maximum = aliases,
            Property::RequestProblemInformation(wanted) => terms.problem_information = wanted,
            Property::AuthenticationMethod(_) => {
                return refuse(
                    Reason::BadAuthenticationMethod,
                    "no authentication method is configured",
                );
            }
            _ => {}
        }
    }
    Ok(())
}

fn check_keep_alive(
    config: &Config,
    version: Version,
    terms: &mut Admission,
) -> Result<(), Refusal> {
    let most = config.max_keepalive;
    if most == 0 || (1..=most).contains(&terms.keep_alive) {
        return Ok(());
    }
    if version != Version::V5 {
        // The original refuses with "identifier rejected", for want of a better code in 3.x.
        return refuse(Reason::ClientIdNotValid, "keep alive exceeds max_keepalive");
    }
    terms.keep_alive = most;
    terms.keep_alive_changed = true;
    Ok(())
}

fn check_will(
    connect: &Connect<'_>,
    listener: &Listener,
    config: &Config,
    terms: &mut Admission,
) -> Result<(), Refusal> {
    let Some(will) = &connect.will else {
        return Ok(());
    };
    if will.retain && !config.retain_available {
        return refuse(
            Reason::RetainNotSupported,
            "retained will, but retain_available is false",
        );
    }
    if will.qos > Qos::from_bits(listener.max_qos).unwrap_or_default() {
        return refuse(Reason::QosNotSupported, "QoS of the will exceeds max_qos");
    }
    for property in will.properties.iter() {
        if let Property::WillDelayInterval(seconds) = property {
            terms.will_delay = seconds;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::mqtt::Properties;

    use super::*;

    fn connect(version: Version) -> Connect<'static> {
        Connect {
            version,
            bridge: false,
            clean_start: true,
            keep_alive: 60,
            properties: Properties::NONE,
            client_id: "id",
            will: None,
            username: None,
            password: None,
        }
    }

    fn decide(connect: &Connect<'_>, config: &Config) -> Result<Admission, Reason> {
        admit(connect, &config.listeners[0], config).map_err(|r| r.reason)
    }

    #[test]
    fn sessions_of_three_end_with_the_connection_when_clean_and_never_otherwise() {
        let config = Config::default_local();
        let mut c = connect(Version::V311);
        assert_eq!(decide(&c, &config).map(|t| t.expiry), Ok(0));
        c.clean_start = false;
        assert_eq!(decide(&c, &config).map(|t| t.expiry), Ok(u32::MAX));
    }

    #[test]
    fn a_session_that_is_cut_short_is_told_so() {
        let mut config = Config::default_local();
        config.persistent_client_expiration = Some(60);
        for (asked, expected) in [(0, (0, false)), (60, (60, false)), (61, (60, true))] {
            let mut builder = crate::mqtt::PropertiesBuilder::default();
            builder.push(Property::SessionExpiryInterval(asked));
            let c = Connect {
                properties: builder.as_properties(),
                ..connect(Version::V5)
            };
            let terms = decide(&c, &config).unwrap();
            assert_eq!((terms.expiry, terms.expiry_changed), expected);
        }
        let mut c = connect(Version::V311);
        c.clean_start = false;
        let terms = decide(&c, &config).unwrap();
        assert_eq!((terms.expiry, terms.expiry_changed), (u32::MAX, false));
    }

    #[test]
    fn aliases_towards_a_client_are_as_many_as_both_sides_take() {
        let config = Config::default_local();
        for (takes, expected) in [(None, 0), (Some(0), 0), (Some(3), 3), (Some(11), 10)] {
            let mut builder = crate::mqtt::PropertiesBuilder::default();
            if let Some(takes) = takes {
                builder.push(Property::TopicAliasMaximum(takes));
            }
            let c = Connect {
                properties: builder.as_properties(),
                ..connect(Version::V5)
            };
            let terms = decide(&c, &config).unwrap();
            assert_eq!(terms.topic_alias_maximum, expected);
        }
    }

    #[test]
    fn an_empty_id_needs_a_clean_session_in_three_and_is_never_allowed_in_31() {
        let config = Config::default_local();
        let mut c = Connect {
            client_id: "",
            ..connect(Version::V311)
        };
        assert!(decide(&c, &config).is_ok_and(|t| t.assign_id));
        c.clean_start = false;
        assert_eq!(decide(&c, &config), Err(Reason::ClientIdNotValid));
        c = Connect {
            client_id: "",
            ..connect(Version::V31)
        };
        assert_eq!(decide(&c, &config), Err(Reason::ClientIdNotValid));
        c = Connect {
            client_id: "",
            clean_start: false,
            ..connect(Version::V5)
        };
        assert!(decide(&c, &config).is_ok());
    }

    #[test]
    fn strangers_are_refused_where_anonymous_is_off() {
        let mut config = Config::default_local();
        config.allow_anonymous = false;
        assert_eq!(
            decide(&connect(Version::V5), &config),
            Err(Reason::NotAuthorized)
        );
        config.listeners[0].allow_anonymous = Some(true);
        assert!(decide(&connect(Version::V5), &config).is_ok());
    }

    #[test]
    fn only_ids_with_the_prefix_are_let_in() {
        let mut config = Config::default_local();
        config.clientid_prefixes = Some("ab".into());
        for (id, expected) in [
            ("ab", true),
            ("abc", true),
            ("a", false),
            ("xab", false),
            ("", false),
        ] {
            let c = Connect {
                client_id: id,
                ..connect(Version::V5)
            };
            let got = decide(&c, &config);
            assert_eq!(got.is_ok(), expected, "{id}: {got:?}");
            assert!(expected || got == Err(Reason::NotAuthorized));
            let again = admit_again(Version::V5, id, &config.listeners[0], &config);
            assert_eq!(again.is_ok(), expected, "{id}");
        }
    }

    #[test]
    fn a_user_name_in_the_place_of_the_id_must_be_there_and_have_the_prefix() {
        let mut config = Config::default_local();
        config.listeners[0].use_username_as_clientid = true;
        let mut c = connect(Version::V311);
        assert_eq!(decide(&c, &config), Err(Reason::NotAuthorized));
        c.username = Some("");
        assert_eq!(decide(&c, &config), Err(Reason::NotAuthorized));
        c.username = Some("joe");
        assert!(decide(&c, &config).is_ok_and(|t| t.id_is_username));
        config.clientid_prefixes = Some("id".into());
        assert_eq!(decide(&c, &config), Err(Reason::NotAuthorized));
    }

    #[test]
    fn a_version_that_is_not_accepted_any_more_is_not_let_in_again() {
        let mut config = Config::default_local();
        config.listeners[0].versions.v311 = false;
        let again = |version| admit_again(version, "id", &config.listeners[0], &config);
        assert!(again(Version::V311).is_err() && again(Version::V5).is_ok());
        assert_eq!(
            decide(&connect(Version::V311), &config),
            Err(Reason::UnsupportedProtocolVersion)
        );
    }

    #[test]
    fn a_longer_keep_alive_is_cut_in_five_and_refused_in_three() {
        let mut config = Config::default_local();
        config.max_keepalive = 30;
        let terms = decide(&connect(Version::V5), &config);
        assert!(terms.is_ok_and(|t| t.keep_alive == 30 && t.keep_alive_changed));
        assert_eq!(
            decide(&connect(Version::V311), &config),
            Err(Reason::ClientIdNotValid)
        );
    }
}
