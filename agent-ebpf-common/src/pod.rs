//! `aya::Pod` for the shared types.
#![expect(unsafe_code, reason = "aya::Pod is an unsafe marker; sizes without padding are asserted beside each type")]

macro_rules! pod {
    ($($ty:ty),* $(,)?) => {
        // SAFETY: repr(C), integers only, no padding: every bit pattern is a value and every byte is initialised.
        $(unsafe impl aya::Pod for $ty {})*
    };
}

pod!(
    crate::Addr,
    crate::AddrKey,
    crate::Backend,
    crate::Config,
    crate::CounterKey,
    crate::CounterValue,
    crate::Endpoint,
    crate::FlowKey,
    crate::FlowTarget,
    crate::IpEntry,
    crate::NatTarget,
    crate::Node,
    crate::PortFlow,
    crate::PortKey,
    crate::Service,
    crate::ServiceKey,
    crate::SockOrigin,
);
