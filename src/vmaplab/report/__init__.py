"""What the command line prints: tables for people, JSON for programs."""
