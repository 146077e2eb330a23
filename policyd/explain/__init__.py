"""Why a decision is as it is, and what would have been enough (SPEC 7). Pure; knows no file and no terminal."""
