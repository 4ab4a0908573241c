//! Why a directive of nginx has no counterpart.

use super::parse::Directive;

/// What forebay does by itself, as the directive wants it: nothing to be said about.
const BUILT_IN: [&str; 16] = [
    "proxy_http_version",
    "keepalive",
    "least_conn",
    "zone",
    "http2",
    "merge_slashes",
    "server_tokens",
    "tcp_nodelay",
    "real_ip_recursive",
    "proxy_pass_request_body",
    "proxy_pass_request_headers",
    "variables_hash_max_size",
    "variables_hash_bucket_size",
    "map_hash_bucket_size",
    "server_names_hash_bucket_size",
    "server_names_hash_max_size",
];

/// Names and beginnings of names (they end in `*`), and why.
const REASONS: &[(&[&str], &str)] = &[
    (
        &["user", "pid", "daemon", "master_process", "lock_file", "worker_*", "pcre_jit", "timer_resolution", "env", "thread_pool"],
        "a matter of the service unit",
    ),
    (&["load_module", "google_perftools_*"], "forebay has no modules"),
    (&["multi_accept", "use", "accept_mutex*", "worker_aio_requests"], "connections are accepted by all threads alike"),
    (
        &[
            "sendfile*",
            "tcp_nopush",
            "aio*",
            "directio*",
            "types",
            "types_*",
            "default_type",
            "index",
            "root",
            "alias",
            "try_files",
            "autoindex*",
            "open_file_cache*",
            "etag",
            "if_modified_since",
            "disable_symlinks",
            "log_not_found",
            "output_buffers",
            "read_ahead",
            "max_ranges",
        ],
        "forebay serves no files",
    ),
    (
        &[
            "gzip*",
            "gunzip*",
            "brotli*",
            "zstd*",
            "sub_filter*",
            "ssi*",
            "addition_*",
            "add_before_body",
            "add_after_body",
            "image_filter*",
            "xslt_*",
            "charset*",
            "override_charset",
            "postpone_output",
            "chunked_transfer_encoding",
        ],
        "bodies are passed on as they are",
    ),
    (&["proxy_cache*", "proxy_no_cache", "proxy_store*", "slice"], "forebay has no cache"),
    (
        &[
            "proxy_buffering",
            "proxy_buffers",
            "proxy_buffer_size",
            "proxy_busy_buffers_size",
            "proxy_max_temp_file_size",
            "proxy_temp_*",
            "proxy_request_buffering",
            "proxy_limit_rate",
            "proxy_headers_hash_*",
            "proxy_ignore_headers",
        ],
        "answers stream, and only writes on spill routes are read whole before they are sent",
    ),
    (
        &["proxy_next_upstream*"],
        "a request that a server certainly did not see goes to another one by itself, as does a read whose connection broke; what else may have been executed is never sent again unless its route allows it",
    ),
    (
        &["proxy_intercept_errors", "error_page", "recursive_error_pages"],
        "the backend's own error pages are passed on, and forebay writes its own as JSON or HTML by `Accept`",
    ),
    (&["proxy_ignore_client_abort"], "a write that has arrived whole is always seen to its end, and a read ends with its client"),
    (&["expires"], "what the backend says of caching is passed on: write `Cache-Control` in `response_headers` of the route"),
    (&["proxy_send_timeout"], "`response_timeout` holds for the whole of it"),
    (&["proxy_socket_keepalive", "proxy_send_lowat"], "options of the socket are left to the system"),
    (&["proxy_bind"], "the system chooses the address that a backend is asked from"),
    (&["proxy_cookie_flags"], "CAUTION: cookies are passed on as they are, without these flags: let the backend set them"),
    (&["proxy_cookie_*"], "cookies are passed on as they are"),
    (&["proxy_pass_header"], "fields of the backend's answer are passed on by themselves"),
    (&["proxy_method", "proxy_set_body"], "CAUTION: method and body are passed on as they came"),
    // Before those of TLS, whose names begin as theirs do.
    (
        &[
            "access_by_lua*",
            "rewrite_by_lua*",
            "server_rewrite_by_lua*",
            "ssl_certificate_by_lua*",
            "ssl_client_hello_by_lua*",
            "js_access",
            "perl_access",
        ],
        "CAUTION: forebay runs no code, and whom this keeps out comes in: let the backend do it",
    ),
    (&["header_filter_by_lua*", "js_header_filter"], "CAUTION: forebay runs no code: the fields of answers go as the backend sends them"),
    (&["proxy_ssl_*"], "set what the backend's certificate is checked against in its `[backends]` table"),
    (
        &["ssl_client_certificate", "ssl_trusted_certificate", "ssl_verify_*", "ssl_crl", "ssl_ocsp*"],
        "CAUTION: clients' certificates are not asked for",
    ),
    (&["ssl_reject_handshake"], "the handshake gets the first certificate, and each request on it 400"),
    (&["ssl_early_data"], "no data is taken before a handshake is done, so that none is replayed"),
    (&["ssl_*"], "TLS 1.2 and 1.3 with sound ciphers, always"),
    (
        &["auth_*", "allow", "deny", "satisfy*", "valid_referers", "secure_link*", "userid_*_access", "session_log*"],
        "CAUTION: forebay does not control access: let the backend do it",
    ),
    (
        &["modsecurity*", "SecRules*", "LearningMode", "DeniedUrl", "CheckRule", "BasicRule", "MainRule", "naxsi*", "app_protect*", "waf*"],
        "CAUTION: forebay filters no requests: what this keeps out comes in",
    ),
    (&["limit_conn*"], "CAUTION: connections of a client are counted over all routes: see `clients.max_connections_per_client`"),
    (&["limit_rate*"], "the speed of an answer is not limited"),
    (
        &[
            "limit_req_status",
            "limit_req_log_level",
            "limit_req_dry_run",
            "limit_conn_status",
            "limit_conn_log_level",
            "limit_conn_dry_run",
        ],
        "past the rate a client gets 429",
    ),
    (
        &["map", "geo", "geoip*", "split_clients", "set", "if", "rewrite_log", "break", "uninitialized_variable_warn"],
        "forebay evaluates no variables of its own and no regular expressions",
    ),
    (&["rewrite"], "CAUTION: the backend gets the path without it; see `strip_prefix` and `add_prefix`"),
    (&["proxy_pass_request_headers", "proxy_pass_request_body"], "CAUTION: fields and body of a request are passed on"),
    (&["merge_slashes"], "paths are matched without empty segments, and passed on as they came"),
    (&["real_ip_recursive"], "the last address that is no trusted proxy's is the client's"),
    (&["resolver*"], "names are looked up as the system does"),
    (
        &["fastcgi_*", "uwsgi_*", "scgi_*", "memcached_*", "perl*", "js_*", "lua_*", "*_by_lua*", "redis*", "postgres*", "mongo*"],
        "forebay speaks HTTP to its backends and runs no code",
    ),
    (&["grpc_*"], "of gRPC, `grpc_pass grpc://…` is carried over, with its fields and times"),
    (&["stream", "mail", "rtmp"], "forebay proxies HTTP only"),
    (
        &["keepalive_requests", "keepalive_time", "keepalive_disable", "keepalive_min_timeout"],
        "a connection ends when it is idle, not after a count",
    ),
    (
        &[
            "client_body_buffer_size",
            "client_body_temp_path",
            "client_body_in_*",
            "client_header_buffer_size",
            "connection_pool_size",
            "request_pool_size",
            "subrequest_output_buffer_size",
        ],
        "memory is bounded by itself: small bodies stay in it, large ones go to the folder of the store",
    ),
    (&["send_timeout", "lingering_*", "reset_timedout_connection", "postpone_output"], "a client that does not read is cut off by itself"),
    (
        &["underscores_in_headers", "ignore_invalid_headers"],
        "what two readers could understand differently is refused, and the rest passed on as it came",
    ),
    (&["absolute_redirect", "server_name_in_redirect", "port_in_redirect"], "redirects say what `to` says"),
    (&["stub_status", "status", "api"], "see /metrics and `forebay status`"),
    (&["open_log_file_cache", "log_subrequest"], "the access log is one file, open all the time"),
    (
        &["ip_hash", "hash", "random", "sticky*", "least_time", "queue", "ntlm", "state", "match", "health_check"],
        "the less loaded of two servers is taken: clients are not bound to one",
    ),
    (
        &[
            "dav_*",
            "create_full_put_path",
            "mirror*",
            "empty_gif",
            "flv",
            "mp4*",
            "random_index",
            "mp4",
            "f4f*",
            "hls*",
            "userid*",
            "browser*",
        ],
        "forebay has nothing of the kind",
    ),
    (&["debug_*", "worker_shutdown_timeout"], "see `drain_timeout` and `log.level`"),
    (&["quic_*", "http3*"], "HTTP/3 is not spoken"),
    (&["http2_*"], "HTTP/2 is bounded by itself, and nothing is pushed"),
    (&["vhost_traffic_status*", "opentracing*", "opentelemetry*", "otel_*"], "see /metrics and the access log"),
    (
        &["more_set_input_headers", "more_clear_input_headers"],
        "CAUTION: fields of clients are passed on as they came: write it as `request_headers` of the routes",
    ),
    (&["more_set_headers"], "CAUTION: answers go without it: write it as `response_headers` of the routes"),
    (&["more_*"], "write it as `response_headers` or `request_headers` of the routes"),
];

/// Those of which it does so only where they are on.
const ONLY_ON: [&str; 4] = ["merge_slashes", "real_ip_recursive", "proxy_pass_request_body", "proxy_pass_request_headers"];

/// Whether nothing has to be said of a directive.
pub(super) fn is_built_in(directive: &Directive) -> bool {
    let name = directive.name.as_str();
    lets_in(directive) || (BUILT_IN.contains(&name) && !(ONLY_ON.contains(&name) && directive.arg(0) == "off"))
}

/// Whether a directive of those that keep somebody out says that it keeps out nobody.
pub(super) fn lets_in(directive: &Directive) -> bool {
    let says = (directive.name.as_str(), directive.arg(0));
    matches!(says, ("auth_basic" | "auth_request" | "modsecurity", "off") | ("allow" | "satisfy", "all"))
}

/// Why a directive did not carry over, where what it says counts too.
pub(super) fn why_of(directive: &Directive) -> &'static str {
    let says = |word: &str| directive.args.iter().any(|arg| arg.to_ascii_lowercase().contains(word));
    match directive.name.as_str() {
        "proxy_cookie_path" if ["secure", "httponly", "samesite"].iter().any(|flag| says(flag)) => why("proxy_cookie_flags"),
        "rewrite" if ["permanent", "redirect"].contains(&directive.arg(2)) => {
            "CAUTION: nobody is sent elsewhere by it: write a route with `redirect`"
        }
        name => why(name),
    }
}

/// Why a directive of this name did not carry over. Of one that nobody knows it cannot be told whether it keeps somebody out.
pub(super) fn why(name: &str) -> &'static str {
    let fits = |pattern: &&str| match pattern.strip_prefix('*') {
        Some(within) => name.contains(within.trim_end_matches('*')),
        None => pattern.strip_suffix('*').is_some_and(|beginning| name.starts_with(beginning)),
    };
    let known =
        REASONS.iter().find(|(names, _)| names.contains(&name)).or_else(|| REASONS.iter().find(|(names, _)| names.iter().any(fits)));
    known.map_or("CAUTION: not known to forebay: if it keeps somebody out, that holds no more", |(_, why)| why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directive_is_told_why_it_did_not_carry_over() {
        for (name, part) in [
            ("sendfile", "serves no files"),
            ("gzip_types", "as they are"),
            ("ssl_ciphers", "sound ciphers"),
            ("ssl_verify_client", "CAUTION"),
            ("access_by_lua_block", "CAUTION"),
            ("content_by_lua_block", "speaks HTTP to its backends and runs no code"),
            ("auth_pam", "CAUTION"),
            ("SecRulesEnabled", "CAUTION"),
            ("limit_conn", "CAUTION"),
            ("ssl_certificate_by_lua_block", "CAUTION"),
            ("ssl_client_hello_by_lua_file", "CAUTION"),
            ("header_filter_by_lua_block", "CAUTION"),
            ("body_filter_by_lua_block", "runs no code"),
            ("more_clear_input_headers", "CAUTION"),
            ("more_set_input_headers", "CAUTION"),
            ("more_set_headers", "CAUTION"),
            ("more_clear_headers", "response_headers"),
            ("proxy_method", "CAUTION"),
            ("proxy_set_body", "CAUTION"),
            ("limit_conn_log_level", "past the rate"),
            ("proxy_cookie_flags", "CAUTION"),
            ("proxy_cookie_domain", "as they are"),
            ("proxy_cache_valid", "no cache"),
            ("no_such_thing", "CAUTION: not known"),
        ] {
            assert!(why(name).contains(part), "{name}: {}", why(name));
        }
    }
}
