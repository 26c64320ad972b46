//! The claims, written once for both versions.

use std::fmt::Debug;
use std::time::Duration;

use rumqttc::v5::mqttbytes::v5::PublishProperties;
use tokio::time::sleep;

use crate::connection::{Connection, Error, Message, Options, Version};

const SUBSCRIBERS: usize = 8;
const PUBLISHERS: usize = 2;
const MESSAGES: usize = 20;
const MEGABYTE: usize = 1 << 20;

type Held = Result<(), Error>;

/// Where a claim is looked at: the broker, the version, and a topic that nothing else uses.
struct Place {
    port: u16,
    version: Version,
    topic: String,
}

impl Place {
    fn options(&self, name: &str) -> Options {
        Options {
            port: self.port,
            client_id: format!("rumqttc-{name}-{}", std::process::id()),
            session_secs: None,
            will: None,
            authentication_method: None,
        }
    }

    async fn connect(&self, name: &str) -> Result<Connection, Error> {
        Connection::open(self.version, &self.options(name)).await
    }

    async fn connect_session(&self, name: &str, secs: u32) -> Result<Connection, Error> {
        let mut options = self.options(name);
        options.session_secs = Some(secs);
        Connection::open(self.version, &options).await
    }

    async fn connect_with_will(
        &self,
        name: &str,
        payload: &str,
        qos: u8,
    ) -> Result<Connection, Error> {
        let mut options = self.options(name);
        options.will = Some((self.topic.clone(), payload.into(), qos));
        Connection::open(self.version, &options).await
    }

    fn at(&self, level: &str) -> String {
        format!("{}/{level}", self.topic)
    }
}

/// Looks at every claim in every version. Whether all hold.
pub async fn hold(port: u16) -> bool {
    let mut all = true;
    for version in [Version::V311, Version::V5] {
        macro_rules! look {
            ($($claim:ident)*) => {$(
                let name = stringify!($claim);
                let topic = format!("clients/rumqttc/{}/{name}/{version}", std::process::id());
                match $claim(&Place { port, version, topic }).await {
                    Ok(()) => println!("{version} {name}"),
                    Err(error) => {
                        eprintln!("rumqttc: {version} {name}: {error}");
                        all = false;
                    }
                }
            )*};
        }
        look! {
            qos_0_reaches_every_subscriber
            qos_1_reaches_every_subscriber
            qos_2_reaches_every_subscriber
            a_megabyte_arrives_intact
            a_retained_message_is_kept_and_cleared
            a_will_follows_an_abrupt_close
            no_will_follows_a_disconnect
            a_session_keeps_messages_while_away
            a_second_connection_takes_over
            suback_grants_the_qos_asked_for
        }
        if version == Version::V5 {
            look! {
                properties_arrive_as_sent
                an_alias_stands_for_its_topic
                a_message_expires
                a_session_expires
                puback_says_that_nobody_subscribed
                unsuback_says_that_nothing_was_there
                connack_says_why_it_refuses
            }
        }
    }
    all
}

async fn qos_0_reaches_every_subscriber(place: &Place) -> Held {
    reaches_every_subscriber(place, 0).await
}

async fn qos_1_reaches_every_subscriber(place: &Place) -> Held {
    reaches_every_subscriber(place, 1).await
}

async fn qos_2_reaches_every_subscriber(place: &Place) -> Held {
    reaches_every_subscriber(place, 2).await
}

async fn reaches_every_subscriber(place: &Place, qos: u8) -> Held {
    let mut subscribers = Vec::new();
    for n in 0..SUBSCRIBERS {
        let mut subscriber = place.connect(&format!("s{n}")).await?;
        subscriber.subscribe(&[(place.at("#"), 2)]).await?;
        subscribers.push(subscriber);
    }
    let mut publishers = Vec::new();
    for n in 0..PUBLISHERS {
        publishers.push(place.connect(&format!("p{n}")).await?);
    }
    for n in 0..MESSAGES {
        for (p, publisher) in publishers.iter_mut().enumerate() {
            let topic = place.at(&p.to_string());
            publisher
                .publish(&topic, n.to_string().as_bytes(), qos, false)
                .await?;
        }
    }
    for subscriber in &mut subscribers {
        let mut next = [0; PUBLISHERS];
        for _ in 0..MESSAGES * PUBLISHERS {
            let message = subscriber.message().await?;
            equal("QoS", message.qos, qos)?;
            let of = (0..PUBLISHERS).find(|p| message.topic == place.at(&p.to_string()));
            let of = of.ok_or_else(|| format!("a message of {}", message.topic))?;
            equal(
                "payload",
                message.payload,
                next[of].to_string().into_bytes(),
            )?;
            next[of] += 1;
        }
    }
    for connection in subscribers.into_iter().chain(publishers) {
        connection.disconnect().await?;
    }
    Ok(())
}

async fn a_megabyte_arrives_intact(place: &Place) -> Held {
    let mut state = 1_u32;
    let payload: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    })
    .take(MEGABYTE)
    .collect();
    let mut publisher = place.connect("p").await?;
    let mut subscribers = [place.connect("s1").await?, place.connect("s2").await?];
    for subscriber in &mut subscribers {
        subscriber.subscribe(&[(place.topic.clone(), 2)]).await?;
    }
    for qos in 0..=2 {
        publisher
            .publish(&place.topic, &payload, qos, false)
            .await?;
        for subscriber in &mut subscribers {
            expect(subscriber, &place.topic, &payload, qos, false).await?;
        }
    }
    for subscriber in subscribers {
        subscriber.disconnect().await?;
    }
    publisher.disconnect().await
}

async fn a_retained_message_is_kept_and_cleared(place: &Place) -> Held {
    let topic = &place.topic;
    let mut publisher = place.connect("p").await?;
    publisher.publish(topic, b"kept", 1, true).await?;
    let mut subscriber = place.connect("s").await?;
    subscriber.subscribe(&[(topic.clone(), 1)]).await?;
    expect(&mut subscriber, topic, b"kept", 1, true).await?;
    publisher.publish(topic, b"", 1, true).await?;
    expect(&mut subscriber, topic, b"", 1, false).await?;
    subscriber.disconnect().await?;
    let mut late = place.connect("s").await?;
    late.subscribe(&[(topic.clone(), 1)]).await?;
    publisher.publish(topic, b"fresh", 1, false).await?;
    expect(&mut late, topic, b"fresh", 1, false).await?;
    late.disconnect().await?;
    publisher.disconnect().await
}

async fn a_will_follows_an_abrupt_close(place: &Place) -> Held {
    let mut watcher = place.connect("watcher").await?;
    watcher.subscribe(&[(place.topic.clone(), 2)]).await?;
    for qos in 0..=2 {
        let payload = format!("gone {qos}");
        drop(place.connect_with_will("lost", &payload, qos).await?);
        expect(&mut watcher, &place.topic, payload.as_bytes(), qos, false).await?;
    }
    watcher.disconnect().await
}

async fn no_will_follows_a_disconnect(place: &Place) -> Held {
    let mut watcher = place.connect("watcher").await?;
    watcher.subscribe(&[(place.topic.clone(), 1)]).await?;
    let leaving = place.connect_with_will("leaving", "gone", 1).await?;
    leaving.disconnect().await?;
    sleep(Duration::from_millis(500)).await;
    let mut publisher = place.connect("p").await?;
    publisher
        .publish(&place.topic, b"still here", 1, false)
        .await?;
    expect(&mut watcher, &place.topic, b"still here", 1, false).await?;
    publisher.disconnect().await?;
    watcher.disconnect().await
}

async fn a_session_keeps_messages_while_away(place: &Place) -> Held {
    let mut session = place.connect_session("session", 600).await?;
    equal("session present at first", session.session_present, false)?;
    session.subscribe(&[(place.topic.clone(), 2)]).await?;
    session.disconnect().await?;
    let mut publisher = place.connect("p").await?;
    for qos in 1..=2 {
        for n in 0..MESSAGES {
            publisher
                .publish(&place.topic, n.to_string().as_bytes(), qos, false)
                .await?;
        }
    }
    let mut session = place.connect_session("session", 600).await?;
    equal("session present", session.session_present, true)?;
    for qos in 1..=2 {
        for n in 0..MESSAGES {
            expect(
                &mut session,
                &place.topic,
                n.to_string().as_bytes(),
                qos,
                false,
            )
            .await?;
        }
    }
    session.disconnect().await?;
    place.connect("session").await?.disconnect().await?;
    publisher.disconnect().await
}

async fn a_second_connection_takes_over(place: &Place) -> Held {
    let mut first = place.connect("twice").await?;
    let mut second = place.connect("twice").await?;
    first.closed().await?;
    second.subscribe(&[(place.topic.clone(), 1)]).await?;
    second.publish(&place.topic, b"mine", 1, false).await?;
    expect(&mut second, &place.topic, b"mine", 1, false).await?;
    second.disconnect().await
}

async fn suback_grants_the_qos_asked_for(place: &Place) -> Held {
    let mut client = place.connect("s").await?;
    let filters = [2, 0, 1].map(|qos| (place.at(&qos.to_string()), qos));
    equal("SUBACK", client.subscribe(&filters).await?, vec![2, 0, 1])?;
    client.disconnect().await
}

async fn properties_arrive_as_sent(place: &Place) -> Held {
    let mut subscriber = place.connect("s").await?;
    let mut publisher = place.connect("p").await?;
    subscriber
        .subscribe_as(&[(place.topic.clone(), 1)], Some(300))
        .await?;
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut properties = PublishProperties {
        payload_format_indicator: Some(1),
        content_type: Some("text/plain".into()),
        response_topic: Some("answer".into()),
        correlation_data: Some(vec![0, 255, 42].into()),
        user_properties: vec![pair("b", "1"), pair("a", "2"), pair("b", "1"), pair("", "")],
        ..PublishProperties::default()
    };
    publisher
        .publish_with(&place.topic, b"?", false, properties.clone())
        .await?;
    let got = expect(&mut subscriber, &place.topic, b"?", 1, false).await?;
    properties.subscription_identifiers = vec![300];
    equal("properties", got.properties, properties)?;
    subscriber.disconnect().await?;
    publisher.disconnect().await
}

async fn an_alias_stands_for_its_topic(place: &Place) -> Held {
    let mut subscriber = place.connect("s").await?;
    let mut publisher = place.connect("p").await?;
    subscriber.subscribe(&[(place.at("#"), 1)]).await?;
    let (one, two) = (place.at("one"), place.at("two"));
    for (n, topic) in [one.as_str(), "", &two, ""].into_iter().enumerate() {
        let properties = PublishProperties {
            topic_alias: Some(1),
            ..PublishProperties::default()
        };
        publisher
            .publish_with(topic, n.to_string().as_bytes(), false, properties)
            .await?;
    }
    // Messages of different topics have no order.
    let mut got = Vec::new();
    for _ in 0..4 {
        let message = subscriber.message().await?;
        got.push((message.payload, message.topic));
    }
    got.sort();
    let wanted = [(b"0", &one), (b"1", &one), (b"2", &two), (b"3", &two)];
    let wanted = wanted.map(|(payload, topic)| (payload.to_vec(), topic.clone()));
    equal("messages", got, wanted.to_vec())?;
    subscriber.disconnect().await?;
    publisher.disconnect().await
}

async fn a_message_expires(place: &Place) -> Held {
    let queued = place.at("queued");
    let mut session = place.connect_session("session", 600).await?;
    session.subscribe(&[(queued.clone(), 1)]).await?;
    session.disconnect().await?;
    let mut publisher = place.connect("p").await?;
    for (payload, secs) in [("short", 1), ("long", 600)] {
        let expiring = || PublishProperties {
            message_expiry_interval: Some(secs),
            ..PublishProperties::default()
        };
        let retained = place.at(&format!("retained/{payload}"));
        publisher
            .publish_with(&queued, payload.as_bytes(), false, expiring())
            .await?;
        publisher
            .publish_with(&retained, payload.as_bytes(), true, expiring())
            .await?;
    }
    sleep(Duration::from_millis(2500)).await;
    let mut session = place.connect_session("session", 600).await?;
    let left = expect(&mut session, &queued, b"long", 1, false).await?;
    some_left(&left)?;
    session.subscribe(&[(place.at("retained/#"), 1)]).await?;
    let retained = place.at("retained/long");
    let left = expect(&mut session, &retained, b"long", 1, true).await?;
    some_left(&left)?;
    publisher.publish(&queued, b"last", 1, false).await?;
    expect(&mut session, &queued, b"last", 1, false).await?;
    publisher.publish(&retained, b"", 1, true).await?;
    session.disconnect().await?;
    place.connect("session").await?.disconnect().await?;
    publisher.disconnect().await
}

fn some_left(message: &Message) -> Held {
    match message.properties.message_expiry_interval {
        Some(501..600) => Ok(()),
        left => Err(format!("{left:?} s are left of 600 for {}", message.topic)),
    }
}

async fn a_session_expires(place: &Place) -> Held {
    for (name, secs) in [("short", 1), ("long", 600)] {
        let mut session = place.connect_session(name, secs).await?;
        session.subscribe(&[(place.topic.clone(), 1)]).await?;
        session.disconnect().await?;
    }
    sleep(Duration::from_millis(2500)).await;
    for (name, present) in [("short", false), ("long", true)] {
        let session = place.connect_session(name, 0).await?;
        equal(name, session.session_present, present)?;
        session.disconnect().await?;
    }
    Ok(())
}

async fn puback_says_that_nobody_subscribed(place: &Place) -> Held {
    let mut publisher = place.connect("p").await?;
    let mut subscriber = place.connect("s").await?;
    let alone = publisher.publish(&place.topic, b"alone", 1, false).await?;
    equal("PUBACK", alone.as_str(), "NoMatchingSubscribers")?;
    subscriber.subscribe(&[(place.topic.clone(), 1)]).await?;
    let heard = publisher.publish(&place.topic, b"heard", 1, false).await?;
    equal("PUBACK", heard.as_str(), "Success")?;
    publisher.disconnect().await?;
    subscriber.disconnect().await
}

async fn unsuback_says_that_nothing_was_there(place: &Place) -> Held {
    let mut client = place.connect("s").await?;
    client.subscribe(&[(place.topic.clone(), 1)]).await?;
    for reason in ["Success", "NoSubscriptionExisted"] {
        let got = client.unsubscribe(&place.topic).await?;
        equal("UNSUBACK", got, vec![reason.to_owned()])?;
    }
    client.disconnect().await
}

async fn connack_says_why_it_refuses(place: &Place) -> Held {
    let mut options = place.options("refused");
    options.authentication_method = Some("unheard of".into());
    match Connection::open(place.version, &options).await {
        Ok(_) => Err("it does not refuse".into()),
        Err(why) if why.contains("BadAuthenticationMethod") => Ok(()),
        Err(why) => Err(why),
    }
}

async fn expect(
    connection: &mut Connection,
    topic: &str,
    payload: &[u8],
    qos: u8,
    retain: bool,
) -> Result<Message, Error> {
    let message = connection.message().await?;
    let start =
        |payload: &[u8]| String::from_utf8_lossy(&payload[..payload.len().min(20)]).into_owned();
    equal(
        "message",
        (
            &*message.topic,
            start(&message.payload),
            message.qos,
            message.retain,
        ),
        (topic, start(payload), qos, retain),
    )?;
    if message.payload != payload {
        return Err("the payload is not what was sent".into());
    }
    Ok(message)
}

fn equal<T: PartialEq + Debug>(what: &str, got: T, wanted: T) -> Held {
    if got == wanted {
        Ok(())
    } else {
        Err(format!("{what}: got {got:?}, not {wanted:?}"))
    }
}
