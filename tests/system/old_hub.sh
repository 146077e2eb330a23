# shellcheck shell=bash
# Between the guide and the rollout: the hub as it might have been for years, without policyd in its lists. Contoso's
# server relays because its certificate's fingerprint is in a table.
systemctl disable --now policyd.socket
sed -i 's,^listen = \["systemd.*,listen = ["inet:127.0.0.1:10045"\, "unix:/var/spool/postfix/policyd/policyd.sock"],' \
    /etc/policyd/policyd.toml
sed -i '/^\[policy\]/d; /^attribution_header/d' /etc/policyd/policyd.toml
systemctl restart policyd
policyd-postfix-setup --apply off
fingerprint=$(openssl x509 -in /root/contoso/mail.contoso.com.pem -noout -fingerprint -sha256 | cut -d= -f2)
echo "$fingerprint contoso" >/etc/postfix/relay_clientcerts
postmap /etc/postfix/relay_clientcerts
postconf -X smtpd_data_restrictions header_checks nested_header_checks
postconf -e 'relay_clientcerts = hash:/etc/postfix/relay_clientcerts' 'smtpd_tls_ask_ccert = yes' \
    'smtpd_relay_restrictions = permit_mynetworks, permit_sasl_authenticated, permit_tls_clientcerts, defer_unauth_destination'
postfix reload
