"""What is done to a video, a model or the account: each verb once, whether a step, a request or a command asks."""
