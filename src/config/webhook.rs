//! The tables `[[webhook]]`: who is told what a person should know, and how letters are signed.
//!
//! # Invariants
//!
//! * A key is a file's name, never the key itself.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use tidegate_coordinator::WebhookConfig;
use toml::Spanned;

use super::Text;
use super::tls::file;
use crate::exit::Failure;
use crate::explain;

/// Receivers forget what is not told again: Alertmanager after five minutes.
const REPEAT: Duration = Duration::from_mins(1);

/// Telling more often is noise, and telling less often lets receivers forget.
const REPEAT_SECONDS: std::ops::RangeInclusive<u64> = 1..=3_600;

/// More receivers are for Alertmanager to serve.
const RECEIVERS_MAX: usize = 8;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawWebhook {
    url: Spanned<String>,
    key: Spanned<PathBuf>,
    repeat_seconds: Option<Spanned<u64>>,
    link: Option<String>,
}

/// Who is told.
pub(super) fn webhooks(
    raw: Option<Vec<RawWebhook>>,
    text: &Text,
) -> Result<Vec<WebhookConfig>, Failure> {
    let raw = raw.unwrap_or_default();
    if let Some(one_more) = raw.get(RECEIVERS_MAX) {
        let title = format!("there are more than {RECEIVERS_MAX} webhooks");
        let help = "tell Alertmanager, and let that tell the others";
        return Err(text.complain(one_more.url.span(), title, help));
    }
    raw.into_iter().map(|webhook| webhook.check(text)).collect()
}

impl RawWebhook {
    fn check(self, text: &Text) -> Result<WebhookConfig, Failure> {
        if !self.url.get_ref().starts_with("http://") {
            let title = "the webhook's URL does not begin with `http://`";
            let help = "write it as `http://127.0.0.1:9093/api/v2/alerts`; use a tunnel to reach \
                        others: letters are signed, not hidden";
            return Err(text.complain(self.url.span(), title, help));
        }
        if let Some(seconds) = &self.repeat_seconds
            && !REPEAT_SECONDS.contains(seconds.get_ref())
        {
            let title = "a webhook is told again after 1 to 3600 s";
            let help = "leave `repeat_seconds` out for once a minute";
            return Err(text.complain(seconds.span(), title, help));
        }
        let repeat =
            self.repeat_seconds.map(Spanned::into_inner).map(Duration::from_secs);
        Ok(WebhookConfig {
            key: file(&self.key, text)?,
            url: self.url.into_inner(),
            repeat: repeat.unwrap_or(REPEAT),
            link: self.link.unwrap_or_default(),
            advice: explain::advice,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{CoordinatorFile, Text};
    use super::*;

    fn read(webhook: &str) -> Result<Vec<WebhookConfig>, String> {
        let content =
            format!("data_dir = \"d\"\n[[webhook]]\nkey = \"hook.key\"\n{webhook}");
        let (name, dir) = ("coordinator.toml".to_owned(), "/etc/tidegate".into());
        let file = CoordinatorFile::check(&Text { name, dir, content });
        file.map(|file| file.coordinator.webhooks).map_err(|error| error.to_string())
    }

    #[test]
    fn a_webhook_is_told_every_minute_and_its_key_is_a_file() {
        let webhooks = read("url = \"http://127.0.0.1:9093/api/v2/alerts\"\n").unwrap();

        assert_eq!(webhooks.len(), 1);
        assert_eq!(webhooks[0].key, Path::new("/etc/tidegate/hook.key"));
        assert_eq!(webhooks[0].repeat, REPEAT);
        let advice = (webhooks[0].advice)("halted");
        assert!(advice.is_some_and(|advice| !advice.is_empty()));
    }

    #[test]
    fn what_would_be_sent_nowhere_or_too_often_is_refused_with_its_place() {
        let no_scheme = read("url = \"127.0.0.1:9093\"\n").unwrap_err();
        let too_often = read("url = \"http://h/\"\nrepeat_seconds = 0\n").unwrap_err();

        assert!(no_scheme.contains("coordinator.toml:4:7"), "{no_scheme}");
        assert!(too_often.contains("after 1 to 3600 s"), "{too_often}");
    }
}
