"""The compiled rules, kept in one mapped file (LMDB): what `policyd.policy.lookups` asks for."""
