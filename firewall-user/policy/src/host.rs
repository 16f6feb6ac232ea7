//! A compiled policy as tables in ordinary memory.

use firewall_ebpf::backend::host::HostPolicy;

use crate::compiled::CompiledPolicy;

impl From<&CompiledPolicy> for HostPolicy {
    fn from(policy: &CompiledPolicy) -> Self {
        let (arena, rows) = policy.lay_out();
        Self {
            prefixes_v4: policy.prefixes_v4.clone(),
            prefixes_v6: policy.prefixes_v6.clone(),
            rows,
            pages: arena.pages,
            has: policy.has(),
        }
    }
}

impl From<CompiledPolicy> for HostPolicy {
    fn from(policy: CompiledPolicy) -> Self {
        Self::from(&policy)
    }
}
