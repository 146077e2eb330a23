"""The wire: the Postfix SMTP access policy delegation protocol (SPEC 5). Pure: bytes in, bytes out."""
