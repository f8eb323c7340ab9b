//! Models of Anthropic by InvokeModel.
