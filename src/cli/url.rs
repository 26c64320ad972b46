//! `-L mqtt://[USER[:PASSWORD]@]HOST[:PORT]/TOPIC`

/// What a URL says. No percent signs are decoded, as in the original.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Url<'a> {
    pub host: &'a str,
    pub port: Option<&'a str>,
    pub username: Option<&'a str>,
    pub password: Option<&'a str>,
    pub topic: &'a str,
}

/// What is wrong with a URL.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum BadUrl {
    /// Not `mqtt://`.
    Scheme,
    /// `mqtts://`, `ws://`, `wss://`.
    SchemeNotBuilt(&'static str),
    /// No slash behind the host, or nothing behind that.
    TopicMissing,
}

/// Takes `url` apart.
pub(super) fn parse(url: &str) -> Result<Url<'_>, BadUrl> {
    for scheme in ["mqtts", "ws", "wss"] {
        if url
            .strip_prefix(scheme)
            .is_some_and(|rest| rest.starts_with("://"))
        {
            return Err(BadUrl::SchemeNotBuilt(scheme));
        }
    }
    let rest = url.strip_prefix("mqtt://").ok_or(BadUrl::Scheme)?;
    let (authority, topic) = rest.split_once('/').ok_or(BadUrl::TopicMissing)?;
    if topic.is_empty() {
        return Err(BadUrl::TopicMissing);
    }
    let (login, place) = match authority.rsplit_once('@') {
        Some((login, place)) => (Some(login), place),
        None => (None, authority),
    };
    let (username, password) = match login.map(|login| login.split_once(':').ok_or(login)) {
        Some(Ok((username, password))) => (Some(username), Some(password)),
        Some(Err(username)) => (Some(username), None),
        None => (None, None),
    };
    let (host, port) = split_port(place);
    Ok(Url {
        host,
        port,
        username,
        password,
        topic,
    })
}

/// `HOST`, `HOST:PORT`, `[ADDRESS]`, `[ADDRESS]:PORT`
fn split_port(place: &str) -> (&str, Option<&str>) {
    if let Some((address, rest)) = place.strip_prefix('[').and_then(|p| p.split_once(']')) {
        return (address, rest.strip_prefix(':'));
    }
    match place.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (place, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_is_found_and_may_be_missing() {
        let all = Url {
            host: "example.org",
            port: Some("1884"),
            username: Some("user"),
            password: Some("pa:ss"),
            topic: "a/b",
        };
        assert_eq!(
            parse("mqtt://user:pa:ss@example.org:1884/a/b"),
            Ok(all.clone())
        );
        let without_password = Url {
            password: None,
            ..all.clone()
        };
        assert_eq!(
            parse("mqtt://user@example.org:1884/a/b"),
            Ok(without_password)
        );
        let bare = Url {
            port: None,
            username: None,
            password: None,
            ..all
        };
        assert_eq!(parse("mqtt://example.org/a/b"), Ok(bare));
    }

    #[test]
    fn an_ipv6_address_stands_in_brackets() {
        let url = parse("mqtt://[::1]:99/t").unwrap();
        assert_eq!((url.host, url.port), ("::1", Some("99")));
        let url = parse("mqtt://[fe80::1%lo]/t").unwrap();
        assert_eq!((url.host, url.port), ("fe80::1%lo", None));
    }

    #[test]
    fn what_is_no_url_of_ours_is_told_apart() {
        assert_eq!(parse("http://h/t"), Err(BadUrl::Scheme));
        assert_eq!(parse("mqtts://h/t"), Err(BadUrl::SchemeNotBuilt("mqtts")));
        assert_eq!(parse("mqtt://h"), Err(BadUrl::TopicMissing));
        assert_eq!(parse("mqtt://h/"), Err(BadUrl::TopicMissing));
    }
}
