//! Query strings.

use percent_encoding::percent_decode_str;

/// The parameters in order, decoded; `+` is a space, as in HTML forms.
pub fn parameters(query: &str) -> Vec<(String, String)> {
    let decode = |text: &str| {
        percent_decode_str(&text.replace('+', " "))
            .decode_utf8_lossy()
            .into_owned()
    };
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        assert_eq!(
            parameters("a=1&&b=x%3Dy+z&c&d=%ff"),
            [("a", "1"), ("b", "x=y z"), ("c", ""), ("d", "\u{fffd}")].map(|(a, b)| (a.to_owned(), b.to_owned()))
        );
    }
}
