//! The goods: a list of orders, in memory.

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

const MOST: usize = 1000;

/// One order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Order {
    pub(crate) id: usize,
    pub(crate) item: String,
}

/// What `POST /orders` takes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewOrder {
    pub(crate) item: String,
}

/// All orders.
pub(crate) struct Orders(Mutex<Vec<Order>>);

impl Orders {
    pub(crate) fn with_samples() -> Self {
        let samples = ["tea", "bread"].iter().enumerate().map(|(index, item)| Order {
            id: index + 1,
            item: (*item).to_owned(),
        });
        Self(Mutex::new(samples.collect()))
    }

    pub(crate) fn list(&self) -> Vec<Order> {
        self.0.lock().clone()
    }

    /// The new order; `None` when the shop is full.
    pub(crate) fn add(&self, new: NewOrder) -> Option<Order> {
        let mut orders = self.0.lock();
        if orders.len() >= MOST {
            return None;
        }
        let order = Order {
            id: orders.len() + 1,
            item: new.item,
        };
        orders.push(order.clone());
        Some(order)
    }
}
