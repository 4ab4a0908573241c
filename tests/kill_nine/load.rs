//! The clients: each sends one write after the other and writes down what it hears, also when the program dies under it.

use std::{net::SocketAddr, sync::Arc};

use forebay::cli::demo::workbook::{orders, workbook};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
};

use crate::{
    books::{Books, Heard, Route, Write},
    common::{
        client::{self, Client},
        within,
    },
};

/// Clients at once.
const CLIENTS: u64 = 16;
/// One write in so many is a spreadsheet.
const UPLOAD_ONE_IN: u64 = 20;

/// Where the program is: how often it was started, and its address while it listens.
type Whereabouts = (u64, Option<SocketAddr>);

/// All clients.
pub(crate) struct Load {
    pub(crate) books: Arc<Books>,
    allowed: Arc<Semaphore>,
    begun: u64,
    program: watch::Sender<Whereabouts>,
    sheets: Arc<[Vec<u8>]>,
    /// They end with the load.
    _clients: JoinSet<()>,
}

impl Load {
    pub(crate) fn start(seed: u64) -> Self {
        let books = Arc::new(Books::new());
        let allowed = Arc::new(Semaphore::new(0));
        let program = watch::Sender::new((0, None));
        // One that shares a segment, and one that is spooled to a file of its own.
        let sheets: Arc<[Vec<u8>]> = [300, 3000].map(|count| workbook(&orders("P7", count)).unwrap()).into();
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let sender = Sender {
                number,
                sent: 0,
                random: fastrand::Rng::with_seed(seed ^ number),
                books: Arc::clone(&books),
                sheets: Arc::clone(&sheets),
                program: program.subscribe(),
            };
            clients.spawn(sender.run(Arc::clone(&allowed)));
        }
        Self { books, allowed, begun: 0, program, sheets, _clients: clients }
    }

    /// Lets so many more writes be sent.
    pub(crate) fn allow(&mut self, writes: u64) {
        self.begun += writes;
        self.allowed.add_permits(usize::try_from(writes).unwrap());
    }

    /// Resolves when all that were allowed have ended.
    pub(crate) async fn ended(&self) {
        let mut ended = self.books.ended();
        while *ended.borrow_and_update() < self.begun {
            within("another write to end", ended.changed()).await.unwrap();
        }
    }

    /// The program listens here.
    pub(crate) fn program_is_at(&self, address: SocketAddr) {
        self.program.send_modify(|(starts, now)| (*starts, *now) = (*starts + 1, Some(address)));
    }

    /// The program is about to be killed.
    pub(crate) fn program_is_gone(&self) {
        self.program.send_modify(|(_, address)| *address = None);
    }

    /// A spreadsheet of which half has been sent.
    pub(crate) async fn half_an_upload(&self, number: u64) -> Client {
        let key = format!("/least/half/{number}/upload");
        let sheet = &self.sheets[1];
        let body = (sheet.len(), crc32fast::hash(sheet));
        self.books.begin(&key, Write { route: Route::Least, order: None, idempotency_key: None, body, whole: false });
        let bytes = client::request("POST", &key, &[], sheet);
        let address = self.program.borrow().1.expect("it listens");
        let mut client = Client::connect(address).await;
        client.send(&bytes[..bytes.len() - sheet.len() / 2]).await;
        client
    }
}

struct Sender {
    number: u64,
    sent: u64,
    random: fastrand::Rng,
    books: Arc<Books>,
    sheets: Arc<[Vec<u8>]>,
    program: watch::Receiver<Whereabouts>,
}

impl Sender {
    async fn run(mut self, allowed: Arc<Semaphore>) {
        let mut client = None;
        while let Ok(permit) = allowed.acquire().await {
            permit.forget();
            let mut connected = match client.take() {
                Some(connected) => connected,
                None => self.connect().await,
            };
            let (key, write, bytes) = self.next();
            self.books.begin(&key, write);
            let heard = match connected.try_send(bytes).await {
                Ok(()) => connected.try_response().await.ok(),
                Err(_) => None,
            };
            self.books.end(&key, heard.as_ref().map_or(Heard::Nothing, Heard::from));
            client = heard.map(|_| connected);
        }
    }

    async fn connect(&mut self) -> Client {
        loop {
            let here = within("the program to listen", self.program.wait_for(|(_, address)| address.is_some())).await;
            let (starts, address) = *here.unwrap();
            if let Ok(client) = Client::try_connect(address.unwrap()).await {
                return client;
            }
            // It was killed meanwhile.
            within("another start", self.program.wait_for(|now| *now != (starts, address))).await.unwrap();
        }
    }

    fn next(&mut self) -> (String, Write, Vec<u8>) {
        let number = self.sent;
        self.sent += 1;
        let route = if self.random.u8(0..3) == 0 { Route::Most } else { Route::Least };
        let is_upload = self.random.u64(0..UPLOAD_ONE_IN) == 0;
        let key = format!("/{}/{}-{number}{}", route.name(), self.number, if is_upload { "/upload" } else { "" });
        let body = if is_upload {
            let sheets = &self.sheets;
            sheets[self.random.usize(0..sheets.len())].clone()
        } else {
            let length = self.random.usize(0..2000);
            key.bytes().cycle().take(length).collect()
        };
        // Mostly one of a few values, so that writes stand behind one another; else one of its own, which may go live.
        let value = match self.random.u64(0..8) {
            fresh @ 5.. => format!("{}-{number}-{fresh}", self.number),
            few => format!("{}-{few}", self.number),
        };
        let idempotency_key = self.random.bool().then(|| format!("\"{}-{number}\"", self.number));
        let mut fields = vec![format!("X-Order: {value}")];
        fields.extend(idempotency_key.iter().map(|value| format!("Idempotency-Key: {value}")));
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        let bytes = client::request("POST", &key, &fields, &body);
        let order = (route == Route::Least).then_some((value, number));
        (key, Write { route, order, idempotency_key, body: (body.len(), crc32fast::hash(&body)), whole: true }, bytes)
    }
}
