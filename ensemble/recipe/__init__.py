"""Everything that decides a result, validated: what a person may write, and what it resolves to."""
