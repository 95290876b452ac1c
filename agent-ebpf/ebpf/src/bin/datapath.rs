//! The object that the agent loads: every program of the datapath.
#![no_std]
#![no_main]

use agent_ebpf_progs as programs;
use aya_ebpf::macros::{cgroup_sock_addr, classifier};
use aya_ebpf::programs::{SockAddrContext, TcContext};

#[classifier]
pub fn from_pod(ctx: TcContext) -> i32 {
    programs::from_pod::run(&ctx)
}

#[classifier]
pub fn to_pod(ctx: TcContext) -> i32 {
    programs::to_pod::run(&ctx)
}

#[classifier]
pub fn from_mesh(ctx: TcContext) -> i32 {
    programs::from_mesh::run(&ctx)
}

#[classifier]
pub fn from_tunnel(ctx: TcContext) -> i32 {
    programs::from_tunnel::run(&ctx)
}

#[classifier]
pub fn to_wan(ctx: TcContext) -> i32 {
    programs::to_wan::run(&ctx)
}

#[cgroup_sock_addr(connect4)]
pub fn connect4(ctx: SockAddrContext) -> i32 {
    programs::sock_lb::connect4(&ctx)
}

#[cgroup_sock_addr(connect6)]
pub fn connect6(ctx: SockAddrContext) -> i32 {
    programs::sock_lb::connect6(&ctx)
}

#[cgroup_sock_addr(getpeername4)]
pub fn getpeername4(ctx: SockAddrContext) -> i32 {
    programs::sock_lb::getpeername4(&ctx)
}

#[cgroup_sock_addr(getpeername6)]
pub fn getpeername6(ctx: SockAddrContext) -> i32 {
    programs::sock_lb::getpeername6(&ctx)
}
