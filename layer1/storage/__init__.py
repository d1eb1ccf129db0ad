"""What one queries: blocks, transactions and groups in SQL, written in bulk behind the journal."""
