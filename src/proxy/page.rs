//! The few pages that a browser sees from us: a problem, and a queued request that is followed until it is delivered.

use http::StatusCode;

use crate::envelope::Timestamp;

/// A page that says what is wrong.
pub(super) fn problem(status: StatusCode, title: &str, detail: &str) -> String {
    let body = format!("<h1>{}</h1><p>{}</p><p class=\"small\">{}</p>", escape(title), escape(detail), status.as_u16());
    page(title, &body, "")
}

/// A page that follows a queued request and then shows the real answer.
pub(super) fn queued(location: &str, position: u64, accepted_at: Timestamp) -> String {
    let body = format!(
        "<h1>Received</h1><p>Your request is stored safely and will be delivered as soon as the server can take it. \
         There is no need to send it again.</p><p id=\"state\" aria-live=\"polite\">Waiting, number {position} in line since {accepted_at}.</p>\
         <p class=\"small\"><a href=\"{location}\">{location}</a></p>"
    );
    // Only our own path goes into the script; what the backend answered is shown by going there.
    let script = format!(
        "<script>(function follow() {{ fetch('{location}', {{ headers: {{ Accept: 'application/json' }} }}).then(r => r.json()).then(r => {{ \
         if (r.state === 'delivered') location.replace('{location}/response'); \
         else if (r.state === 'dead' || r.state === 'cancelled') document.getElementById('state').textContent = \
         r.state === 'dead' ? 'It could not be delivered (' + r.reason + '). Somebody will look into it.' : 'It was cancelled.'; \
         else {{ document.getElementById('state').textContent = r.state === 'delivering' ? 'Being delivered.' : \
         'Waiting' + (r.position ? ', number ' + r.position + ' in line.' : '.'); setTimeout(follow, 2000); }} \
         }}).catch(() => setTimeout(follow, 5000)); }})();</script>\
         <noscript><p><a href=\"{location}\">See how it went</a></p></noscript>"
    );
    page("Received", &body, &script)
}

fn page(title: &str, body: &str, script: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{}</title><style>body{{font:16px/1.5 system-ui,sans-serif;max-width:38rem;margin:15vh auto;padding:0 1rem;color:#222}}\
         h1{{font-size:1.6rem}}.small{{color:#666;font-size:.85rem;word-break:break-all}}\
         @media(prefers-color-scheme:dark){{body{{background:#161616;color:#ddd}}a{{color:#8bf}}.small{{color:#999}}}}</style></head>\
         <body>{body}{script}</body></html>",
        escape(title)
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_page_says_is_never_markup() {
        let page = problem(StatusCode::BAD_REQUEST, "<b>", "\"<script>alert(1)</script>&");
        assert!(!page.contains("<script>") && !page.contains("<b>"));
    }
}
