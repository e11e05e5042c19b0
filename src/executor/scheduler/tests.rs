//! Random event orders in virtual time.
