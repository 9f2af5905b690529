"""The switch that stops all sending of a stack, as an operator turns it."""

import json
from collections.abc import Iterator

import boto3
import pytest
from moto import mock_aws

from patient_contact import sends, switch, table

TEMPLATE = {
    "Resources": {
        "Table": {
            "Type": "AWS::DynamoDB::Table",
            "Properties": {
                "TableName": "contacts",
                "BillingMode": "PAY_PER_REQUEST",
                "AttributeDefinitions": [{"AttributeName": name, "AttributeType": "S"} for name in ("PK", "SK")],
                "KeySchema": [{"AttributeName": "PK", "KeyType": "HASH"}, {"AttributeName": "SK", "KeyType": "RANGE"}],
            },
        }
    },
    "Outputs": {"TableName": {"Value": {"Ref": "Table"}}},
}


@pytest.fixture
def stack() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch, mock_aws():
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("TABLE_NAME", "contacts")
        boto3.client("cloudformation").create_stack(StackName="mine", TemplateBody=json.dumps(TEMPLATE))
        yield "mine"


def is_off() -> bool:
    key = dict(zip(("PK", "SK"), ({"S": part} for part in sends.SWITCH), strict=True))
    found = boto3.client("dynamodb").get_item(TableName="contacts", Key=key).get("Item", {})
    return bool(table.decode_item(found).get("off", False))


def test_sending_is_stopped_and_goes_on(stack: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert not is_off()

    assert switch.main(["--stack", stack, "off"]) == 0
    assert is_off()

    assert switch.main(["--stack", stack, "on"]) == 0
    assert not is_off()
    assert capsys.readouterr().out == (
        "sending is off for all practices of mine\nsending is on for all practices of mine\n"
    )


@pytest.mark.parametrize("arguments", [["off"], ["--stack", "mine"], ["--stack", "mine", "maybe"]])
def test_the_switch_is_not_turned_by_halves(
    stack: str, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        switch.main(arguments)

    assert not is_off()
    assert "usage:" in capsys.readouterr().err
