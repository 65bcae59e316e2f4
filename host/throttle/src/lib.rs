//! How much a client may ask, and who goes first when all cannot be answered.
//!
//! [`Throttle`] holds each key, user, tenant and address to its rates and to a number of tasks at once. [`Gate`] lets in as
//! many requests as the host answers at once, has the rest wait in a bounded queue, and serves tenants in turn, so that one
//! tenant's flood takes what is idle and no more.
//!
//! Nothing here grows with what clients send: who is not known any more takes no room, and where all room is taken by those
//! who ask at this moment, the others share one bucket. No clock is read but the one that is handed in.

mod bucket;
mod gate;
mod headers;
mod table;
mod throttle;

pub use gate::{Gate, GateSettings, Place, Priority, Shed};
pub use headers::{LONGEST_WAIT, retry, standing};
pub use throttle::{By, Client, Lease, Over, Policy, Rates, Settings, Standing, Throttle, network};
