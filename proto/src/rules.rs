//! The rules of the protocol, by the codes that comments and test names cite.
//!
//! The text is that of `proto/docs`. A test checks that every code that is cited anywhere is defined there, once.

pub mod streams {
    #![doc = include_str!("../docs/streams.md")]
}

pub mod stream_management {
    #![doc = include_str!("../docs/stream-management.md")]
}

pub mod web {
    #![doc = include_str!("../docs/web.md")]
}

pub mod registration {
    #![doc = include_str!("../docs/registration.md")]
}

pub mod im {
    #![doc = include_str!("../docs/im.md")]
}

pub mod administration {
    #![doc = include_str!("../docs/administration.md")]
}
