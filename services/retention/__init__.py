"""What is kept for how long: deletion by age, collection of blobs, export and import of jobs."""
