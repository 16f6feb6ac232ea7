//! The kernel program: entry points ([`programs`]), records of packets ([`records`]), helper programs for userspace
//! ([`helpers`]), BPF functions that are not inlined ([`subprograms`]), and the decision's tables over BPF maps.

mod entry;
mod explain;
mod globals;
mod helpers;
mod maps;
mod policy;
mod programs;
mod records;
mod subprograms;
mod tables;
mod view;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Never reached: the verifier rejects a program that can reach a panic.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
