"""Demo data: a practice, six patients with the six shapes of the truth tables, three automations, put in over HTTP."""

import http.client
import json
from collections.abc import Mapping
from urllib.parse import urlsplit

import boto3

PRACTICE_ID = "demo"
EMAIL_SENDER = "clinic@demo.example.org"
SCOPE = "practice/admin contact-info/write"

PRACTICE = {
    "name": "Demo Clinic",
    "time_zone": "America/Los_Angeles",
    "default_country": "US",
    "lines": [
        {"id": "main", "name": "Main", "phone_number": "+15035559000", "email_sender": EMAIL_SENDER},
        {"id": "billing", "name": "Billing", "phone_number": "+15035559001", "email_sender": EMAIL_SENDER},
    ],
    "default_line": "main",
    "sending": True,
}


def _text_enabled(number: str) -> dict[str, str]:
    return {"number": number, "line_type": "text_enabled"}


def _landline(number: str) -> dict[str, str]:
    return {"number": number, "line_type": "landline"}


PATIENTS = {
    "p-text": {"phones": [_text_enabled("+15035550101")], "emails": []},
    "p-text-email": {"phones": [_text_enabled("+15035550102")], "emails": [{"address": "pat@example.org"}]},
    "p-text-landline-email": {
        "phones": [_text_enabled("+15035550103"), _landline("+15035550104")],
        "emails": [{"address": "sam@example.org"}],
    },
    "p-landline": {"phones": [_landline("+15035550105")], "emails": []},
    "p-landline-email": {"phones": [_landline("+15035550106")], "emails": [{"address": "lee@example.org"}]},
    "p-email": {"phones": [], "emails": [{"address": "kim@example.org"}]},
}

AUTOMATIONS = {
    "appointment-reminder": {
        "name": "Appointment reminder",
        "line": "main",
        "messages": {
            "text": {"body": "Hi $first_name, see you at Demo Clinic on $when. Reply STOP to opt out."},
            "call": {"body": "Hello $first_name. This is Demo Clinic with a reminder of your appointment on $when."},
            "email": {"subject": "Your appointment", "body": "Hello $first_name, see you at Demo Clinic on $when."},
        },
    },
    "recall": {
        "name": "Recall",
        "line": "main",
        "messages": {"text": {"body": "Hi $first_name, it is time for a check-up at Demo Clinic."}},
    },
    "balance-due": {
        "name": "Balance due",
        "line": "billing",
        "messages": {"call": {"body": "Hello $first_name. This is Demo Clinic: please call us about your account."}},
    },
}


def verify_sender() -> None:
    """Let SES send in the practice's name, as its domain's owner would."""
    boto3.client("sesv2").create_email_identity(EmailIdentity=EMAIL_SENDER)


def load(api_url: str, token: str) -> None:
    """Put the demo data in as an integration engineer would."""
    connection = http.client.HTTPConnection(urlsplit(api_url).netloc)
    practice = f"/v1/practices/{PRACTICE_ID}"
    wanted: dict[str, Mapping[str, object]] = {practice: PRACTICE}
    wanted |= {f"{practice}/patients/{patient_id}/contact-info": body for patient_id, body in PATIENTS.items()}
    wanted |= {f"{practice}/automations/{automation_id}": body for automation_id, body in AUTOMATIONS.items()}
    for path, body in wanted.items():
        headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        connection.request("PUT", path, json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        if answer.status != 200:
            raise RuntimeError(f"demo data was refused: PUT {path}: {answer.status} {text}")
    connection.close()
