"""What a reply to a text means: keywords to the letter, wishes in the patient's own words, and when those are due.

Pure: imports the library that knows holidays, and nothing of ours.
"""

import re
import unicodedata
from collections.abc import Collection
from datetime import date, timedelta
from typing import Literal

# A message that may be a wish goes to staff; what is no wish is counted and ignored.
Meaning = Literal["opt_out", "opt_in", "help", "may_opt_out", "may_opt_in", "empty", "other"]

OPT_OUT = frozenset(
    {
        "stop",
        "stopall",
        "stop all",
        "unsubscribe",
        "cancel",
        "end",
        "quit",
        "revoke",
        "optout",
        "opt out",
        "remove",
        "arret",
        "td",
    }
)
OPT_IN = frozenset({"start", "unstop", "yes"})
HELP = frozenset({"help", "info"})

# Keywords that appointment replies use as well, and that a line may hand over to staff.
ReviewWord = Literal["CANCEL", "END", "QUIT", "REMOVE", "YES"]

BUSINESS_DAYS = 10

# A text has at most 1,600 characters. To put 20,000 marks on one letter in order takes Unicode seconds.
MAX_ANALYSED = 2_000

# Phones answer a text with a heart, and send along what it was about: our own "Reply STOP to opt out".
_REACTION = re.compile(
    r"^(?:liked|loved|disliked|laughed at|emphasi[sz]ed|questioned"
    r"|reacted\b[^\"“«]{0,40} to|removed an? [^\"“«]{1,40} from"
    r"|(?:me|le) (?:gust[oó]|encant[oó])|a aim[eé]|a ador[eé]|[^\w\"“«]{1,24} (?:to|a|à))\s+[\"“«].*[\"”»]$",
    re.DOTALL | re.IGNORECASE,
)
_CLOSING = {"“": "”", "«": "»", '"': '"'}
# STOP as a sign, no entry, no phones, no bell.
_STOP_SIGN = re.compile("[\U0001f6d1\u26d4\U0001f6ab\U0001f4f5\U0001f515]")
# "I'm not Maria": a name is known by its capital, which is gone from the words.
_SOMEBODY_ELSE = re.compile(
    r"\b(?i:this is not|this isn.?t|i.?m not|i am not|no soy) [A-Z][a-z]+[.!]*$"
    r"|\b[Nn]o [A-Z][a-z]+ (?:here|at this number)\b"
)

_STOP = r"(?:(?:please|pls|plz|just)?(?:st+o+p+|stpo|sotp|tsop|stahp))"
_TEXTS = (
    r"(?:texts?|texting|txts?|txting|messages?|messaging|msgs?|msging|sms"
    r"|reminders?|reminding|notifications?|alerts?)"
)
_THESE = r"(?:these|this|those|them|any of (?:these|this|those|them))"
_BETWEEN = r"(?:\w+ ){0,3}?"
_NOT = r"(?:do not|dont|don t|never|no longer|not)"
_POLITE = (
    r"(?:please|pleas|pls|plz|ok|okay|hi|hello|hey|yes|no|just|now|thanks|thank you|thx|all|everything|it|sir|maam"
    rf"|ugh|omg|already|immediately|asap|por favor|ya|gracias|svp|merci|{_THESE})"
)
_WANT = rf"\b{_NOT} (?:want|wish|need|like)\w*"
_SPANISH = r"alto|para|parar|pare|paren|basta|baja|cancelar|detener|deteng\w+|eliminar|borrar|no mas"
# In the form of `_words`: small letters and digits, single spaces, no apostrophes. Compiled (by `re`, once) when the
# first reply is read: that costs 20 ms, and most who import this module read none.
_OWN_WORDS = "|".join(
    (
        # A keyword and politeness: "please cancel", "quit this".
        rf"^(?:{_POLITE} )*(?:unsubscribe|cancel|end|quit|revoke|optout|opt out|remove)(?: {_POLITE})*$",
        rf"^(?:{_POLITE} )*(?:cease|desist|halt|discontinue|disable|deactivate|mute|off|enough)(?: {_POLITE})*$",
        # "Please don't"; not "please don't forget".
        rf"^(?:{_POLITE} )*(?:please|pls|plz)?(?:do not|dont|don t)(?: do)?(?: {_POLITE})*$",
        # "Stop. Thank you"; not "stop by" and "stopped by", nor "should I stop taking my pills".
        rf"^(?:{_POLITE} )*{_STOP}(?! by\b|ped\b|ping\b|watch\b)",
        rf"(?<!\bbus )(?<!\bnext )(?<!\blast )(?<!\bpit )(?<!\brest )(?<!\bquick )(?<!\ba )(?<!\bthe )\b{_STOP}$",
        rf"\b{_STOP} (?:please|pls|plz|now|immediately|it|all|that|{_THESE})\b",
        rf"\b{_STOP} (?:getting|receiving) {_THESE}\b",
        rf"\b(?:{_STOP}|quit|cease|end|cancel|halt|discontinue|disable|deactivate) {_BETWEEN}{_TEXTS}\b",
        rf"\b(?:turn off|no further|refrain from|tired of|sick of|too many|instead of|enough) {_BETWEEN}{_TEXTS}\b",
        rf"\b(?:{_STOP}|quit|cease) {_BETWEEN}(?:contact|call|send|bother|harass|spam)\w*",
        r"\bcease and desist\b|\b(?:turn|shut|switch) (?:\w+ ){0,3}?off\b",
        r"^no contact$|\bno (?:further|more|future) contact\b",
        rf"\bquit (?:it|{_THESE})\b|\b(?:tired|sick) of {_THESE}\b|\btext(?:ing)? (?:me )?too (?:much|often)\b",
        r"\bunsu[bs]\w*|\bun sub\w*|\bunscri\w*|\bun ?enrol\w*|\bunregister\w*",
        r"\bopt(?:ing|ed)? (?:me |us |my \w+ )?out\b|\boptout\b|\bstop ?all\b|\brevok\w+\b",
        rf"\b(?:cancel|end|{_STOP}) {_BETWEEN}subscription",
        r"\b(?:remove|delete|erase) (?:me|us)\b",
        r"\b(?:remove|delete|erase) (?:my |this |the |our )?(?:number|phone|cell|name|info\w*)\b",
        r"\b(?:remove|delete|take) (?:\w+ ){0,3}?(?:from|off|out of) (?:\w+ ){0,2}?(?:list|system|texts?)\b",
        r"\btake (?:me|us|my \w+|this \w+) (?:off|out)\b|\bget me off\b|\boff (?:your|this|the) (?:list|texts?)\b",
        rf"\b{_NOT} (?:\w+ ){{0,2}}?(?:text|txt|message|msg|contact|sms|remind|notify|bother)\b",
        rf"\b{_NOT} send (?:me |us )?(?:any\w*|more|{_TEXTS}|{_THESE})\b",
        rf"\b{_NOT} call (?:me$|me (?:again|anymore)|(?:this|my) (?:number|phone)|again|anymore|list)\b",
        rf"{_WANT} {_BETWEEN}{_TEXTS}\b|{_WANT} {_THESE}$",
        rf"{_WANT} to (?:be (?:contacted|texted|messaged)|hear from|(?:get|receive) {_THESE})\b",
        r"\bnot interested\b|\b(?:did not|didnt|didn t|never) (?:sign(?:ed)? up|subscribed?|ask(?:ed)? for this)\b",
        r"\b(?:do not|dont|don t|did not|didnt|never|no) consent|\bwithdr[ae]w\w* (?:\w+ )?consent\b",
        rf"\b(?:no|no more|any more|anymore) (?:\w+ )?{_TEXTS}\b|^no more\b|\b{_TEXTS} (?:no more|off)$",
        r"\bleave me alone\b|\blose (?:my|this) number\b|\bgo away\b|\bshut up\b|\bstfu\b",
        r"\b(?:f|fuck|piss|bug|buzz|back) off\b|\bfuck (?:you|u)\b",
        r"\bspam\w*\b|\bscam\w*\b|\bharass\w*\b|^blocked$|\bblock(?:ing|ed)? (?:you|this|u)\b",
        r"\breporting (?:you|u|this)\b|\breport (?:you|u|this number)(?: to\b|$)|\bfcc\b|\bftc\b|\btcpa\b",
        # Somebody else has this number now: nothing about a patient may go there.
        r"^(?:(?:sorry|sry|no|hi|hello|you have|youve got|you got|u got|its|this is|the|a) )*wrong$",
        r"\b(?:wrong|incorrect|not the right) (?:num\w*|nm\w+|no|person|phone|cell|contact|guy|man|woman)\b",
        r"\byou have the wrong\b|\bnot my (?:appointment|appt|doctor|name)\b|\bby (?:that|this) name\b",
        r"\bnot (?:his|her|their) (?:number|phone|cell)\b|\b(?:not|no longer) (?:a |an |your )?patients?\b",
        r"\bno longer (?:belongs|lives|(?:his|her|their|my) (?:number|phone|cell))\b",
        r"\b(?:does not|doesnt|doesn t) live here\b|\bdeceased\b|\bpassed away\b",
        r"\b(?:he|she|mother|father|mom|dad|wife|husband|patient) (?:has )?died\b",
        # In Spanish and French, as patients in the US and Canada write.
        r"\bno (?:me |nos |le |les )*(?:mas|mand\w+|envi\w+|escrib\w+|molest\w+|contact\w+|llame\w*|text\w+)\b",
        r"\bdej\w+ de (?:mand|envi|escrib|molest|contact|llam)\w+|\ben paz\b",
        r"\b(?:dar\w*|dame|deme|denme) de baja\b",
        r"\bno quiero (?:\w+ ){0,2}?(?:mas|mensajes|textos|recordatorios)\b|\bdess?us?cri\w*",
        r"\b(?:quit|elimin|borr|saqu)[aei]\w*(?:me|nos)\b",
        r"\b(?:quit|elimin|borr)[aei]\w* (?:mi|este) (?:numero|nombre)\b",
        r"\bcancel\w* (?:\w+ ){0,2}?(?:suscripcion|mensajes|textos|recordatorios)\b",
        r"\b(?:numero|persona|telefono) (?:equi[vb]oca|incorrect)\w+\b|\besta equivocado\b|\bequivoco de numero\b",
        r"\bno soy paciente\b|\bno conozco a\b",
        rf"^(?:por favor )?(?:{_SPANISH})(?: ya| por favor| gracias)*$",
        r"\barret(?:e|er|ez)\b|\bdesabonn\w*|\bdesins?cri\w*|\b(?:mauvais|faux) numero\b",
        r"\bca suffit\b|\btranquille\b",
        r"\bplus (?:de |d )(?:messages?|textos?|sms|rappels?)\b|\bne veux plus (?:recevoir|de)\b",
        r"\bne (?:me |nous )?m?(?:envoy|ecri|contact|text|derang|appel)\w* plus\b",
        r"\b(?:retir|enlev|supprim|effac)\w* (?:moi|mon|ce)\b",
    )
)


def meaning(text: str, handed_over: Collection[str] = ()) -> Meaning:
    """Read a reply; `handed_over` are the keywords (in capitals) that this line leaves to staff.

    The whole message, without regard to case, accents, punctuation and spaces, is compared with the keywords. One that
    asks to stop in its own words is never acted on alone: it may be an opt-out, and so may one that is too long.
    """
    if len(text) > MAX_ANALYSED:
        return "may_opt_out"
    words = _words(text)
    joined = _joined(text)
    if not joined:
        return "may_opt_out" if _STOP_SIGN.search(text) else "other" if text.strip() else "empty"
    for form in (words, joined):
        if form in OPT_OUT:
            return "may_opt_out" if form.upper() in handed_over else "opt_out"
        if form in OPT_IN:
            return "may_opt_in" if form.upper() in handed_over else "opt_in"
        if form in HELP:
            return "help"
    if _REACTION.match(text.strip()):
        text = _outside_quotes(text)
        words, joined = _words(text), _joined(text)
    if re.search(_OWN_WORDS, words) or _STOP_SIGN.search(text) or _is_misspelt_opt_out(joined):
        return "may_opt_out"
    # "S T O P", "un subscribe"; and the name of somebody who does not have this number.
    if joined.replace(" ", "") in OPT_OUT or _SOMEBODY_ELSE.search(text.strip()):
        return "may_opt_out"
    return "other"


def due_on(said_on: date) -> date:
    """Give the tenth business day after a wish was said, in the US: that long 47 CFR 64.1200(a)(10) allows at most."""
    # Costs a tenth of a second to import, and only a message that staff must read needs it.
    from holidays.countries.united_states import US

    federal = US()  # type: ignore[no-untyped-call]  # it comes without types
    day, left = said_on, BUSINESS_DAYS
    while left:
        day += timedelta(days=1)
        if day.weekday() < 5 and day not in federal:
            left -= 1
    return day


def _outside_quotes(text: str) -> str:
    """Give what a reaction says beside what it quotes, in which there may be quotes of the same kind."""
    outside, opening, depth = [], "", 0
    for before, each, after in zip(f" {text}", text, f"{text[1:]} ", strict=False):
        if depth == 0:
            is_quote = each in _CLOSING
            opening, depth = (each, 1) if is_quote else ("", 0)
            outside.append(" " if is_quote else each)
        elif each == opening and (each != '"' or (before.isspace() and not after.isspace())):
            depth += 1
        elif each == _CLOSING[opening]:
            depth -= 1
    return "".join(outside)


def _plain(text: str) -> str:
    """Fold case, and take accents and apostrophes away; letters in bold have a case only once they are plain."""
    marked = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return "".join(each for each in marked if not unicodedata.combining(each) and each not in "'’‘`´ʼ")


def _words(text: str) -> str:
    """Give the words of a text: small letters and digits, with single spaces in the place of all else."""
    return " ".join("".join(each if each.isalnum() else " " for each in _plain(text)).split())


def _joined(text: str) -> str:
    """Give a text without punctuation: "S.T.O.P" and "opt-out" are words, too."""
    return " ".join("".join(each for each in _plain(text) if each.isalnum() or each.isspace()).split())


def _is_misspelt_opt_out(joined: str) -> bool:
    """Say whether a message of one word is all but a keyword: "stpo", "unsuscribe"."""
    # Costs a millisecond to import, and only a reply needs it.
    import difflib

    return " " not in joined and bool(
        difflib.get_close_matches(joined, [word for word in OPT_OUT if len(word) > 3], 1, 0.75)
    )
