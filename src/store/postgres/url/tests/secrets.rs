//! That a password with any delimiter is read back, and that no text shows it.

use super::*;
use crate::store::postgres::url::target::encoded;

/// Passwords with all pairs and some runs of the delimiters of a URL, between characters that no
/// message contains.
fn passwords_with_delimiters() -> Vec<String> {
    let special: Vec<char> = "/@:?#%[],&=+ \\'\"$!\n\t\u{1}ü;<>*".chars().collect();
    let mut all = Vec::new();
    for a in &special {
        for b in &special {
            all.push(format!("Xq7w{a}Jk9z{b}Vb3m"));
            all.push(format!("{a}Xq7w{b}{a}"));
        }
        all.push(format!("12987{a}60718{a}1698"));
        all.push(format!("%4{a}Xq7w%2B{a}Jk9z"));
    }
    all
}

/// Whether `text` shows the password or four characters of it in a row.
fn shows(text: &str, password: &str) -> bool {
    let characters: Vec<char> = password.chars().collect();
    text.contains(password)
        || characters.windows(4).any(|piece| text.contains(&piece.iter().collect::<String>()))
}

#[test]
fn no_password_is_ever_shown() {
    for secret in passwords_with_delimiters() {
        for written in [secret.clone(), encoded(&secret)] {
            for url in [
                format!("postgresql://user:{written}@host/db"),
                format!("postgresql://user:{written}@host:99/db?sslmode=require"),
                format!("postgresql://user:{written}@host:port/db"),
                format!("postgresql://user:{written}@[::1/db"),
                format!("postgresql://user:{written}@one,,two/db"),
                format!("postgresql://user:{written}@host/db?zebra=1"),
                format!("postgresql://user:{written}@host/db?sslmode=zebra"),
                format!("postgresql://host/db?password={written}"),
                format!("postgresql://host/db?password={written}&user=user"),
                format!("postgresql://host/db?user=user&password={written}&zebra=1"),
                format!("postgresql://host/db?sslpassword={written}"),
                format!("postgresql://host/db?zebra=1&sslpassword={written}"),
                format!("postgresql://host/db?oauth_client_secret={written}&sslmode=require"),
                format!("postgresql://host/db?scram_client_key={written}"),
                format!("postgresql://host/db?%70assword={written}&zebra=1"),
                format!("postgresql+psycopg2://user:{written}@host/db"),
                format!("mysql://user:{written}@host/db"),
                format!("sqlite://:{written}@/file.db"),
                format!("\"postgresql://user:{written}@host/db\""),
                format!("psql 'postgresql://user:{written}@host/db'"),
                format!("user:{written}@host/db"),
                format!("jdbc:postgresql://host/db?password={written}"),
                format!("host=host password={written}"),
            ] {
                let text = match read_with(&url, &[]) {
                    Ok(target) => format!("{target} {target:?}"),
                    Err(error) => format!("{error} {error:?}"),
                };
                assert!(!shows(&text, &secret), "{url:?}: {text}");
            }
        }
    }
}

#[test]
fn an_encoded_password_is_read_back() {
    for secret in passwords_with_delimiters() {
        let written = encoded(&secret);
        for url in [
            format!("postgresql://user:{written}@host/db"),
            format!("postgresql://user@host/db?password={written}&sslmode=require"),
        ] {
            assert_eq!(password(&read(&url)), Some(secret.as_bytes()), "{url}");
        }
    }
}
