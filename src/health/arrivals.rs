//! Servers that come and go with what their name stands for.

use super::Health;

impl Health {
    /// A server has come, with this number. `eased`: it is given little at first, and all within 30 s, for its caches are cold.
    pub fn appear(&self, server: usize, eased: bool) {
        let mut policy = self.policy.lock();
        let now = self.now();
        policy.servers_mut().appear(server, eased, now);
        self.set_weights(&policy, now);
        drop(policy);
        self.rescheduled.notify_one();
    }

    /// The server of this number has gone: it is given nothing more.
    pub fn vanish(&self, server: usize) {
        let mut policy = self.policy.lock();
        policy.servers_mut().vanish(server);
        self.set_weights(&policy, self.now());
    }
}
