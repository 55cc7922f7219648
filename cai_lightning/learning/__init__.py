"""Losses and advantages as pure functions, thin LightningModules around them, and the PPO rollout collector."""
