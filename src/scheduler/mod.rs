//! shim until merge
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tokens {
    pub prefill: u64,
    pub generate: u64,
}
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CostModel {
    a: f64,
}
impl CostModel {
    pub fn cpu() -> Self {
        Self { a: 0.003 }
    }
    pub fn observe(&mut self, _t: Tokens, _s: f64) {}
    pub fn estimate(&self, t: Tokens) -> f64 {
        self.a * (t.prefill + t.generate) as f64
    }
}
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(pub u64);
struct Item<T>(Key, u64, T);
impl<T> PartialEq for Item<T> {
    fn eq(&self, o: &Self) -> bool {
        (self.0, self.1) == (o.0, o.1)
    }
}
impl<T> Eq for Item<T> {}
impl<T> PartialOrd for Item<T> {
    fn partial_cmp(&self, o: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(o))
    }
}
impl<T> Ord for Item<T> {
    fn cmp(&self, o: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(o.0, o.1))
    }
}
pub struct Ready<T> {
    heap: BinaryHeap<Reverse<Item<T>>>,
    n: u64,
}
impl<T> Ready<T> {
    pub fn new() -> Self {
        Self { heap: BinaryHeap::new(), n: 0 }
    }
    pub fn push(&mut self, k: Key, t: T) {
        self.n += 1;
        self.heap.push(Reverse(Item(k, self.n, t)));
    }
    pub fn peek(&self) -> Option<(Key, &T)> {
        self.heap.peek().map(|r| (r.0.0, &r.0.2))
    }
    pub fn pop(&mut self) -> Option<(Key, T)> {
        self.heap.pop().map(|r| (r.0.0, r.0.2))
    }
    pub fn len(&self) -> usize {
        self.heap.len()
    }
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    pub sequences: usize,
    pub cells: usize,
}
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    pub sequences: usize,
    pub cells: usize,
    pub cells_per_sequence: usize,
}
#[derive(Debug)]
pub struct Grant {
    _a: OwnedSemaphorePermit,
    _b: OwnedSemaphorePermit,
}
#[derive(Debug)]
pub struct TooLarge;
pub struct Room {
    c: Capacity,
    s: Arc<Semaphore>,
    k: Arc<Semaphore>,
    pinned: usize,
}
impl Room {
    pub fn new(c: Capacity) -> Self {
        Self { c, s: Arc::new(Semaphore::new(c.sequences)), k: Arc::new(Semaphore::new(c.cells)), pinned: 0 }
    }
    pub fn capacity(&self) -> Capacity {
        Capacity { cells: self.c.cells - self.pinned, ..self.c }
    }
    pub fn check(&self, n: Need) -> Result<(), TooLarge> {
        if n.sequences > self.c.sequences || n.cells > self.c.cells - self.pinned {
            Err(TooLarge)
        } else {
            Ok(())
        }
    }
    pub fn try_admit(&self, n: Need) -> Option<Grant> {
        let a = self.s.clone().try_acquire_many_owned(n.sequences as u32).ok()?;
        let b = self.k.clone().try_acquire_many_owned(n.cells as u32).ok()?;
        Some(Grant { _a: a, _b: b })
    }
    pub fn free(&self) -> Need {
        Need { sequences: self.s.available_permits(), cells: self.k.available_permits() }
    }
    pub fn reserve_permanently(&mut self, cells: usize) -> bool {
        match self.k.try_acquire_many(cells as u32) {
            Ok(p) => {
                p.forget();
                self.pinned += cells;
                true
            }
            Err(_) => false,
        }
    }
}
