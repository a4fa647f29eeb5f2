//! Who is told what happened to wards, in which shape. Delivery is the outbox's.
