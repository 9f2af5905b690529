"""Stops all sending of a stack at once, and lets it go on: `python -m patient_contact.switch --stack NAME off`.

I/O. For operators, who may read the stack and write its table. What is routed while sending is off is withdrawn.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any, Literal, get_args

import boto3

from patient_contact import clock, sends

Position = Literal["on", "off"]


def turn(stack: str, position: Position) -> None:
    """Turn sending on or off for all practices of the stack; it counts from the next message on."""
    described = boto3.client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in described["Outputs"]}
    pk, sk = sends.SWITCH
    item: dict[str, Any] = {
        "PK": {"S": pk},
        "SK": {"S": sk},
        "off": {"BOOL": position == "off"},
        "at": {"S": clock.iso(clock.now())},
    }
    boto3.client("dynamodb").put_item(TableName=outputs["TableName"], Item=item)


def main(arguments: Sequence[str] | None = None) -> int:
    """Turn the switch and say so."""
    parser = argparse.ArgumentParser(description="Stop all sending of a stack at once, or let it go on.")
    parser.add_argument("--stack", required=True, help="name of the CloudFormation stack")
    parser.add_argument("position", choices=get_args(Position), help="off withdraws what is to be sent from now on")
    asked = parser.parse_args(arguments)
    turn(asked.stack, asked.position)
    sys.stdout.write(f"sending is {asked.position} for all practices of {asked.stack}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
