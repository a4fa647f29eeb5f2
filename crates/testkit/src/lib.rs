//! Port contract suites, fault-injecting twins, protocol clients for tests.

pub mod bus_contract;
pub mod http_stub;
pub mod memory_outbox;
pub mod memory_wards;
pub mod memory_work;
pub mod store_contract;
