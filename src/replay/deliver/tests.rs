use futures_util::{StreamExt, future::BoxFuture, stream};
use http::{Response, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use parking_lot::Mutex;

use super::*;
use crate::envelope::{Delivery, Envelope, Field, Reason, RequestId, Timestamp};

/// Answers one request with what it was given, and keeps what was sent.
struct OneAnswer {
    answer: Mutex<Option<Result<Answered, SendError>>>,
    sent: Mutex<Option<Sent>>,
}

/// Head, body and trailers.
type Sent = (Request<()>, Vec<u8>, Option<HeaderMap>);

impl OneAnswer {
    fn new(answer: Result<Answered, SendError>) -> Self {
        Self { answer: Mutex::new(Some(answer)), sent: Mutex::default() }
    }

    fn with(response: Response<AnswerBody>) -> Self {
        Self::new(Ok(Answered { response, server: 0 }))
    }
}

impl Courier for OneAnswer {
    fn send(&self, request: Request<Outgoing>) -> BoxFuture<'_, Result<Answered, SendError>> {
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let (mut bytes, mut trailers) = (Vec::new(), None);
            match body {
                Outgoing::Memory(memory) => bytes.extend_from_slice(&memory),
                Outgoing::Stored(mut body) => {
                    while let Some(frame) = body.frame().await {
                        match frame.unwrap().into_data() {
                            Ok(data) => bytes.extend_from_slice(&data),
                            Err(frame) => trailers = frame.into_trailers().ok(),
                        }
                    }
                }
            }
            *self.sent.lock() = Some((Request::from_parts(head, ()), bytes, trailers));
            let answer = self.answer.lock().take();
            match answer {
                Some(answer) => answer,
                None => std::future::pending().await,
            }
        })
    }

    fn sweep(&self) {}
}

fn body(pieces: Vec<Result<&'static [u8], ()>>) -> AnswerBody {
    StreamBody::new(stream::iter(pieces).map(|piece| piece.map(|bytes| Frame::data(Bytes::from_static(bytes))))).boxed_unsync()
}

fn response(status: u16, fields: &[(&'static str, &'static str)], body: AnswerBody) -> Response<AnswerBody> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    for &(name, value) in fields {
        response.headers_mut().append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

fn field(name: &'static str, value: &'static str) -> Field {
    Field::new(HeaderName::from_static(name), HeaderValue::from_static(value))
}

fn claimed(headers: Vec<Field>, trailers: Vec<Field>, payload: &'static [u8]) -> Claimed {
    let envelope = Envelope {
        id: RequestId::new(),
        backend: "app".into(),
        route: "marks".into(),
        method: Method::POST,
        target: "/marks?x=%20&y=[1]".into(),
        headers,
        trailers,
        reason: Reason::Overload,
        accepted_at: Timestamp::from_millis(1_795_348_800_007),
        expires_at: Timestamp::from_millis(u64::MAX),
        delivery: Delivery::AtLeastOnce,
        max_attempts: 8,
        order_key: None,
        hold_key_when_dead: false,
    };
    Claimed { envelope, payload: Payload::from(Bytes::from_static(payload)), attempt: 3, failures: 1, trips: 0 }
}

fn spooler() -> Spooler {
    Spooler::new(std::env::temp_dir(), 2 * KEPT_BODY, 0)
}

async fn send(courier: &OneAnswer, claimed: &Claimed) -> Attempted {
    deliver(courier, claimed, None, &spooler(), std::future::pending()).await
}

#[tokio::test]
async fn the_request_goes_out_as_it_was_sent_and_says_who_it_is() {
    let headers = vec![
        field("host", "shop.example.com"),
        field("x-list", "1"),
        field("content-type", "application/json"),
        field("x-list", "2"),
        field("content-length", "9999"),
        field("expect", "100-continue"),
    ];
    let claimed = claimed(headers, Vec::new(), b"{\"mark\":7}");
    let courier = OneAnswer::with(response(200, &[], body(Vec::new())));
    send(&courier, &claimed).await;

    let (request, bytes, trailers) = courier.sent.lock().take().unwrap();
    assert_eq!((request.method(), request.uri().to_string().as_str()), (&Method::POST, "/marks?x=%20&y=[1]"));
    assert_eq!((bytes.as_slice(), trailers), (b"{\"mark\":7}".as_slice(), None));
    let id = claimed.envelope.id.to_string();
    let mut fields: Vec<_> = request.headers().iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    fields.sort();
    let mut expected = [
        "host: shop.example.com".to_owned(),
        "x-list: 1".into(),
        "x-list: 2".into(),
        "content-type: application/json".into(),
        "content-length: 10".into(),
        "forebay-attempt: 3".into(),
        "forebay-accepted-at: 2026-11-22T12:00:00.007Z".into(),
        "forebay-reason: overload".into(),
        format!("forebay-id: {id}"),
        format!("idempotency-key: \"{id}\""),
    ];
    expected.sort();
    assert_eq!(fields, expected);
}

#[tokio::test]
async fn a_clients_own_idempotency_key_stays() {
    let claimed = claimed(vec![field("idempotency-key", "order-7")], Vec::new(), b"");
    let courier = OneAnswer::with(response(200, &[], body(Vec::new())));
    send(&courier, &claimed).await;
    let (request, ..) = courier.sent.lock().take().unwrap();
    assert_eq!(request.headers().get_all("idempotency-key").iter().collect::<Vec<_>>(), ["order-7"]);
    assert_eq!(request.headers()["content-length"], "0", "a POST says that it has no body");
}

#[tokio::test]
async fn trailers_are_sent_again_in_chunks() {
    let claimed = claimed(vec![field("content-length", "4")], vec![field("x-checksum", "abc")], b"body");
    let courier = OneAnswer::with(response(200, &[], body(Vec::new())));
    send(&courier, &claimed).await;
    let (request, bytes, trailers) = courier.sent.lock().take().unwrap();
    assert_eq!(bytes, b"body");
    assert_eq!(trailers.unwrap()["x-checksum"], "abc");
    assert_eq!(request.headers()["trailer"], "x-checksum");
    assert!(!request.headers().contains_key("content-length"));
}

#[tokio::test]
async fn names_go_out_in_the_letters_in_which_they_came() {
    let spelled = Field { spelling: Some("SOAPAction".into()), ..field("soapaction", "x") };
    let claimed = claimed(vec![spelled, field("host", "a")], Vec::new(), b"");
    let courier = OneAnswer::with(response(200, &[], body(Vec::new())));
    send(&courier, &claimed).await;
    let (request, ..) = courier.sent.lock().take().unwrap();
    let fields = http1::fields(request.headers(), request.extensions().get(), &[]);
    let names: Vec<&str> = fields.iter().map(|field| field.spelling.as_deref().unwrap_or(field.name.as_str())).collect();
    for name in ["SOAPAction", "host", "Forebay-Id", "Idempotency-Key"] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
}

#[tokio::test]
async fn the_answer_is_kept_as_it_came_without_its_framing() {
    let fields = [("content-length", "5"), ("set-cookie", "a=1"), ("set-cookie", "b=2"), ("location", "/marks/7")];
    let courier = OneAnswer::with(response(201, &fields, body(vec![Ok(b"he"), Ok(b"llo")])));
    let Attempted {
        ended: Ended::Answered { answer, to_login, retry_after },
        signal,
        rtt: Some(_),
        quality: Some(Quality::Good),
        given_up: false,
    } = send(&courier, &claimed(vec![], vec![], b"")).await
    else {
        panic!("an answer came")
    };
    assert_eq!((answer.status, to_login, retry_after, signal), (201, false, None, Some((0, Signal::Success))));
    assert_eq!(answer.payload.as_memory().unwrap().as_ref(), b"hello");
    let kept: Vec<_> = answer.headers.iter().map(|field| (field.name.as_str(), field.value.to_str().unwrap())).collect();
    assert_eq!(kept, fields[1..]);
}

#[tokio::test]
async fn an_answer_whose_body_breaks_off_is_an_answer() {
    let courier = OneAnswer::with(response(200, &[], body(vec![Ok(b"he"), Err(())])));
    let Ended::Answered { answer, .. } = send(&courier, &claimed(vec![], vec![], b"")).await.ended else { panic!("an answer came") };
    assert_eq!(answer.payload.as_memory().unwrap().as_ref(), b"he");
}

#[tokio::test]
async fn no_more_than_a_mebibyte_of_an_answer_is_kept_but_all_of_it_is_read() {
    let piece: &'static [u8] = &[7; 300 * 1024];
    let ended = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let seen = Arc::clone(&ended);
    let pieces = stream::iter(vec![piece; 5]).chain(stream::once(async move {
        seen.store(true, std::sync::atomic::Ordering::Relaxed);
        b"".as_slice()
    }));
    let long = StreamBody::new(pieces.map(|bytes| Ok::<_, ()>(Frame::data(Bytes::from_static(bytes))))).boxed_unsync();
    let courier = OneAnswer::with(response(200, &[], long));
    let Ended::Answered { answer, .. } = send(&courier, &claimed(vec![], vec![], b"")).await.ended else { panic!("an answer came") };
    assert_eq!(answer.payload.len(), KEPT_BODY as u64);
    assert!(ended.load(std::sync::atomic::Ordering::Relaxed));
}

#[tokio::test(start_paused = true)]
async fn an_answer_whose_body_stalls_is_not_waited_for() {
    let stalled = StreamBody::new(stream::pending::<Result<Frame<Bytes>, ()>>()).boxed_unsync();
    let courier = OneAnswer::with(response(200, &[], stalled));
    let Ended::Answered { answer, .. } = send(&courier, &claimed(vec![], vec![], b"")).await.ended else { panic!("an answer came") };
    assert!(answer.payload.is_empty());
}

#[tokio::test]
async fn a_redirect_to_a_login_is_seen() {
    let courier = OneAnswer::with(response(302, &[("location", "/login?next=/marks")], body(Vec::new())));
    let attempted = send(&courier, &claimed(vec![], vec![], b"")).await;
    assert!(matches!(attempted.ended, Ended::Answered { to_login: true, .. }));
}

#[tokio::test]
async fn a_stop_cuts_off_what_has_no_answer_and_keeps_what_has_one() {
    let silent = OneAnswer { answer: Mutex::default(), sent: Mutex::default() };
    let attempted = deliver(&silent, &claimed(vec![], vec![], b""), None, &spooler(), std::future::ready(())).await;
    assert!(matches!(attempted.ended, Ended::Interrupted));

    let slow_body = StreamBody::new(stream::pending::<Result<Frame<Bytes>, ()>>()).boxed_unsync();
    let courier = OneAnswer::with(response(200, &[], slow_body));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let claimed = claimed(vec![], vec![], b"");
    let spooler = spooler();
    let delivery = deliver(&courier, &claimed, None, &spooler, async { stopped.await.unwrap() });
    let stop_after_head = async {
        while courier.answer.lock().is_some() {
            tokio::task::yield_now().await;
        }
        stop.send(()).unwrap();
    };
    let (attempted, ()) = tokio::join!(delivery, stop_after_head);
    assert!(matches!(attempted.ended, Ended::Answered { answer: Answer { status: 200, .. }, .. }));
}

#[test]
fn what_kept_a_body_from_being_read_decides_over_what_the_connection_said() {
    let error = |kind, maybe_sent| SendError { kind, maybe_sent, server: Some(1), detail: "x".into(), spare: None };
    let damaged = StoreError::Damaged(RequestId::new());
    let attempted = unanswered(error(ErrorKind::RequestBody, true), Some(&damaged));
    assert!(matches!(attempted, Attempted { ended: Ended::Damaged { .. }, signal: None, quality: None, .. }));
    let attempted = unanswered(error(ErrorKind::Reset, true), Some(&StoreError::Failed("disk".into())));
    assert!(matches!(attempted, Attempted { ended: Ended::Unreadable { maybe_sent: true, .. }, signal: None, quality: None, .. }));
}

#[test]
fn the_limit_hears_how_it_ended_and_whether_the_backend_may_still_work_on_it() {
    let told = |kind, server| {
        let attempted = unanswered(SendError { kind, maybe_sent: true, server, detail: String::new(), spare: None }, None);
        (attempted.quality, attempted.given_up)
    };
    assert_eq!(told(ErrorKind::Connect, Some(1)), (Some(Quality::Lost(1)), false));
    assert_eq!(told(ErrorKind::Reset, Some(0)), (Some(Quality::Lost(0)), false));
    assert_eq!(told(ErrorKind::Timeout, Some(0)), (Some(Quality::Bad), true));
    assert_eq!(told(ErrorKind::RequestBody, Some(0)), (None, false));
    assert_eq!(told(ErrorKind::Connect, None), (None, false));
}

#[test]
fn the_health_hears_of_the_server_that_failed() {
    let signal = |kind, server| unanswered(SendError { kind, maybe_sent: true, server, detail: String::new(), spare: None }, None).signal;
    assert_eq!(signal(ErrorKind::Connect, Some(1)), Some((1, Signal::ConnectFailure)));
    assert_eq!(signal(ErrorKind::ConnectTimeout, Some(1)), Some((1, Signal::ConnectFailure)));
    assert_eq!(signal(ErrorKind::Timeout, Some(0)), Some((0, Signal::Failure)));
    assert_eq!(signal(ErrorKind::Reset, None), None);
    assert_eq!(signal(ErrorKind::RequestBody, Some(0)), None);
    for (status, expected) in [(200, Signal::Success), (429, Signal::Success), (500, Signal::ApplicationError), (501, Signal::Success)] {
        assert_eq!(Signal::of_status(status), expected, "{status}");
    }
    for (status, expected) in [(502, Signal::Refusal), (503, Signal::Refusal), (504, Signal::Failure)] {
        assert_eq!(Signal::of_status(status), expected, "{status}");
    }
}
