"""Training on a user's own data, and the strategies of fusion compared."""
