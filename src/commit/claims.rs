//! Who is changing what in S3: changes of one object, or of one tree, come one after another.
//!
//! A claim is not a lock on data: readers and writers of the inode go on. It is held over network calls on
//! purpose, lives in a table under a mutex that is not, and all claims of one operation are taken at once, so
//! that two operations cannot wait for each other.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::fs::types::Ino;
use crate::namespace::Namespace;

/// How far a claim reaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// One inode.
    One(Ino),
    /// A directory and everything below it.
    Tree(Ino),
}

#[derive(Debug, Default)]
struct Held {
    scopes: Vec<(u64, Scope)>,
    /// Who waits, oldest first: nobody overtakes a waiter whose claim touches his, or a tree would wait for ever.
    waiting: Vec<(u64, Vec<Scope>)>,
    next: u64,
}

/// The claims of a mount.
#[derive(Debug, Default)]
pub struct Claims {
    held: Mutex<Held>,
    released: Notify,
}

/// A claim that ends when dropped.
#[derive(Debug)]
pub struct Claim {
    claims: Arc<Claims>,
    id: u64,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claims.held.lock().scopes.retain(|(id, _)| *id != self.id);
        self.claims.released.notify_waiters();
    }
}

/// A place in the queue; given back when the claim is taken or the waiter goes away.
struct Ticket {
    claims: Arc<Claims>,
    id: u64,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.claims.held.lock().waiting.retain(|(id, _)| *id != self.id);
        self.claims.released.notify_waiters();
    }
}

impl Claims {
    /// Waits until nothing that is claimed touches any of `scopes`, then claims them all.
    pub async fn claim(self: &Arc<Self>, names: &Namespace, scopes: &[Scope]) -> Claim {
        let ticket = self.ticket(scopes);
        loop {
            let released = self.released.notified();
            tokio::pin!(released);
            released.as_mut().enable();
            if let Some(claim) = self.try_claim(names, scopes, ticket.id) {
                return claim;
            }
            released.await;
        }
    }

    fn ticket(self: &Arc<Self>, scopes: &[Scope]) -> Ticket {
        let mut held = self.held.lock();
        held.next += 1;
        let id = held.next;
        held.waiting.push((id, scopes.to_vec()));
        Ticket { claims: Arc::clone(self), id }
    }

    fn try_claim(self: &Arc<Self>, names: &Namespace, scopes: &[Scope], ticket: u64) -> Option<Claim> {
        let mut held = self.held.lock();
        let before = held.waiting.iter().take_while(|(id, _)| *id != ticket).flat_map(|(_, scopes)| scopes);
        let others: Vec<Scope> = held.scopes.iter().map(|(_, scope)| scope).chain(before).copied().collect();
        if !others.is_empty() {
            let table = names.table();
            let touch = |a: &Scope, b: &Scope| match (*a, *b) {
                (Scope::One(a), Scope::One(b)) => a == b,
                (Scope::One(one), Scope::Tree(top)) | (Scope::Tree(top), Scope::One(one)) => {
                    table.is_within(one, top)
                }
                (Scope::Tree(a), Scope::Tree(b)) => table.is_within(a, b) || table.is_within(b, a),
            };
            if others.iter().any(|other| scopes.iter().any(|scope| touch(other, scope))) {
                return None;
            }
        }
        held.scopes.extend(scopes.iter().map(|s| (ticket, *s)));
        Some(Claim { claims: Arc::clone(self), id: ticket })
    }
}
