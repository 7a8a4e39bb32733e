"""A turn of a job, from what somebody says to where it rests or waits: for AG-UI and chats."""
