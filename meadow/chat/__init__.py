"""Asking a model by hand, in the terminal or on a page of this machine."""

from meadow.chat.conversation import DISCLAIMER, Chat, ChatError, ChatPrompt, ChatSettings, Turn, open_chat

__all__ = ["DISCLAIMER", "Chat", "ChatError", "ChatPrompt", "ChatSettings", "Turn", "open_chat"]
