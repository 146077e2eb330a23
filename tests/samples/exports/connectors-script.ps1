New-InboundConnector -Name "Printers" -ConnectorType OnPremises -SenderDomains * -SenderIPAddresses 203.0.113.9
