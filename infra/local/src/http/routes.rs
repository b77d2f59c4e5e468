//! Which route of an HTTP API a request takes: the most specific one, as API Gateway chooses.

use std::collections::BTreeMap;

/// The routes of an API and where they lead.
#[derive(Clone, Debug, Default)]
pub(crate) struct Routes(Vec<Route>);

#[derive(Clone, Debug)]
struct Route {
    key: String,
    method: String,
    segments: Vec<Segment>,
    is_default: bool,
    target: String,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    // In the order of preference.
    Fixed(String),
    One(String),
    Rest(String),
}

/// A route that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// `POST /runs/{run}`
    pub(crate) key: String,
    /// The logical id of the function.
    pub(crate) target: String,
    pub(crate) parameters: BTreeMap<String, String>,
}

impl Routes {
    /// Adds a route. Path `None` is `$default`.
    pub(crate) fn add(&mut self, method: &str, path: Option<&str>, target: &str) {
        let key = path.map_or("$default".to_owned(), |path| format!("{method} {path}"));
        let segment = |text: &str| match text
            .strip_prefix('{')
            .and_then(|text| text.strip_suffix('}'))
        {
            None => Segment::Fixed(text.to_owned()),
            Some(name) => match name.strip_suffix('+') {
                None => Segment::One(name.to_owned()),
                Some(name) => Segment::Rest(name.to_owned()),
            },
        };
        let segments = path
            .map(|path| split(path).map(segment).collect())
            .unwrap_or_default();
        let (method, target) = (method.to_owned(), target.to_owned());
        self.0.push(Route {
            key,
            method,
            segments,
            is_default: path.is_none(),
            target,
        });
    }

    /// The route of a request, if it has one. `path` is as sent, percent-encoded.
    pub(crate) fn find(&self, method: &str, path: &str) -> Option<Found> {
        let matching = self
            .0
            .iter()
            .filter_map(|route| Some((route, route.matches(method, path)?)));
        let (route, parameters) = matching.min_by_key(|(route, _)| route.rank())?;
        Some(Found {
            key: route.key.clone(),
            target: route.target.clone(),
            parameters,
        })
    }
}

impl Route {
    fn matches(&self, method: &str, path: &str) -> Option<BTreeMap<String, String>> {
        if self.is_default {
            return Some(BTreeMap::new());
        }
        if self.method != "ANY" && self.method != method {
            return None;
        }
        let mut parameters = BTreeMap::new();
        let mut rest: Vec<&str> = split(path).collect();
        rest.reverse();
        for segment in &self.segments {
            match segment {
                Segment::Fixed(text) => (rest.pop()? == text).then_some(())?,
                Segment::One(name) => {
                    let value = rest.pop().filter(|value| !value.is_empty())?;
                    parameters.insert(name.clone(), decoded(value));
                }
                Segment::Rest(name) => {
                    rest.reverse();
                    let value = rest.join("/");
                    (!value.is_empty()).then_some(())?;
                    parameters.insert(name.clone(), decoded(&value));
                    rest.clear();
                }
            }
        }
        rest.is_empty().then_some(parameters)
    }

    /// The least is the most specific: exact paths before greedy ones, `$default` last; fixed segments before
    /// variables, named methods before `ANY`.
    fn rank(&self) -> (bool, Vec<u8>, bool) {
        let kind = |segment: &Segment| match segment {
            Segment::Fixed(_) => 0,
            Segment::One(_) => 1,
            Segment::Rest(_) => 2,
        };
        (
            self.is_default,
            self.segments.iter().map(kind).collect(),
            self.method == "ANY",
        )
    }
}

fn split(path: &str) -> impl Iterator<Item = &str> {
    path.strip_prefix('/').unwrap_or(path).split('/')
}

/// Percent-decoded. What is no UTF-8 then is replaced, as API Gateway's JSON cannot carry it either.
pub(crate) fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = (*first == b'%').then(|| after.get(..2)).flatten();
        let byte = hex
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match byte {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_route_is_taken() {
        let mut routes = Routes::default();
        for (method, path, target) in [
            ("ANY", Some("/{proxy+}"), "api"),
            ("POST", Some("/runs/{run}/decisions/{id}"), "resolve"),
            ("GET", Some("/runs/{run}/decisions/last"), "last"),
            ("ANY", Some("/runs/{run}/decisions/{id}"), "any"),
        ] {
            routes.add(method, path, target);
        }
        for (method, path, target) in [
            ("POST", "/runs/r/decisions/d", Some("resolve")),
            ("POST", "/runs/r/decisions/last", Some("resolve")),
            ("GET", "/runs/r/decisions/last", Some("last")),
            ("DELETE", "/runs/r/decisions/d", Some("any")),
            ("POST", "/runs/r/decisions/", Some("api")),
            ("POST", "/runs/r/decisions/d/e", Some("api")),
            ("GET", "/", None),
        ] {
            assert_eq!(
                routes
                    .find(method, path)
                    .map(|found| found.target)
                    .as_deref(),
                target,
                "{method} {path}"
            );
        }
        let found = routes.find("POST", "/runs/a%20b/decisions/d%2Fe").unwrap();
        assert_eq!(found.key, "POST /runs/{run}/decisions/{id}");
        assert_eq!(found.parameters["run"], "a b");
        assert_eq!(found.parameters["id"], "d/e");
        assert_eq!(
            routes.find("GET", "/a/b/c").unwrap().parameters["proxy"],
            "a/b/c"
        );
        routes.add("ANY", None, "default");
        assert_eq!(routes.find("GET", "/").unwrap().target, "default");
        assert_eq!(routes.find("GET", "/a").unwrap().target, "api");
    }

    #[test]
    fn percent_signs_are_read_leniently() {
        assert_eq!(decoded("100%25%zz%4"), "100%%zz%4");
        assert_eq!(decoded("%C3%A4%ff"), "ä\u{fffd}");
    }
}
