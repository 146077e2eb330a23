Configuration M365TenantConfig
{
    Import-DscResource -ModuleName 'Microsoft365DSC'
    Node localhost
    {
        EXOInboundConnector "EXOInboundConnector-Printers"
        {
            ConnectorType     = "OnPremises";
            Ensure            = "Present";
            SenderIPAddresses = @("203.0.113.9");
        }
    }
}
