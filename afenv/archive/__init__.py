"""The bag that an analysis is kept in: its form, and how it is written, read and checked."""
