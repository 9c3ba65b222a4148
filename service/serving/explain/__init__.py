"""What made an answer: evidence at each position, and what moving the picture does."""
