"""Every code that validation and analysis may give, once: its name, what comes of it, what to do. No rule is here."""
