from __future__ import annotations
import random, os
import pytest
from tests.e2e.test_wiring_check import *
from tests.e2e.test_wiring_check import _filled, postfix_of_cases, configurations, permissive
from policyd.config.restrictions import parse_list, refusal

PIECES=["permit_mynetworks","permit_sasl_authenticated","POLICY","POLICY","POLICY","reject_unauth_destination","reject_unauth_destination","defer_unauth_destination","reject","permit_auth_destination",f"check_client_access inline:{{ {STRANGER}=OK }}",f"check_client_access inline:{{ {STRANGER}=REJECT }}","permit","warn_if_reject reject_unauth_destination","reject_unlisted_recipient","permit_tls_clientcerts","warn_if_reject reject"]

def test_random(postfix_of_cases, configurations, services, policyd, sink, certificates, capsys):
    rng=random.Random(int(os.environ.get("SEED","1")))
    postfix=postfix_of_cases.postfix
    n=0; bad=[]
    import time
    end=time.time()+float(os.environ.get("SECS","400"))
    stats={}
    while time.time()<end:
        def lst(k): return " ".join(rng.sample(PIECES, k))
        r,c=rng.choice([(0,rng.randint(1,5)),(rng.randint(1,5),0),(rng.randint(1,3),rng.randint(1,4))])
        relay,rec=lst(r),lst(c)
        if "POLICY" not in relay+rec: continue
        pol=policy_service(services["enforcing"])
        if not refusal(parse_list(relay.replace("POLICY",pol),{})) and not refusal(parse_list(rec.replace("POLICY",pol),{})): continue
        out={}
        for state in ("enforcing","dead"):
            pol=policy_service(services[state])
            settings={RELAY:relay.replace("POLICY",pol),RECIPIENT:rec.replace("POLICY",pol)}
            postfix.settings={**settings, **relay_settings(sink.port,certificates),"smtpd_policy_service_try_limit":"1","notify_classes":""}
            postfix.listeners["port"]=Listener(postfix.listeners["port"].port,{})
            postfix.reload()
            if state=="enforcing": found=check(configurations[state], postfix.folder/"etc", capsys)
            out[state]={m:reply_to(postfix_of_cases,mail)[:3] for m,mail in (("c",CONNECTOR_OUT),("in",STRANGER_IN),("s",STRANGER_OUT))}
        good = out["enforcing"]["c"]=="250" and out["enforcing"]["s"]!="250" and out["dead"]["s"][0]!="2" and out["dead"]["c"][0]!="2"
        errors=[f for f in found if f.startswith("error")]
        n+=1
        key=(good,bool(errors)); stats[key]=stats.get(key,0)+1
        if good==bool(errors): bad.append((relay,rec,found,out))
    with open("/tmp/h1_random.txt","a") as f:
        print(n,stats,file=f)
        for b in bad: print(b,file=f)
