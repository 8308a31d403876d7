"""What can be wrong with one object, whatever else there is in the mesh."""

from __future__ import annotations

from isthmus.assurance.catalogue.code import error, info, warning

NOT_AN_OBJECT = error(
    "ISM0701",
    "This is not a Kubernetes object.",
    "Without apiVersion, kind and metadata.name nothing can be applied.",
    "Write apiVersion, kind and metadata.name, as kubectl prints them.",
)
UNKNOWN_FIELD = error(
    "ISM0702",
    "A field is not known.",
    "An API server drops or refuses it, so what was meant by it does not happen.",
    "Correct its spelling or its place; the kind's reference lists its fields.",
)
WRONG_TYPE = error(
    "ISM0703",
    "A value has another type than its field.",
    "The object cannot be read, and an API server refuses it.",
    "Write a value of the type that is named.",
)
MISSING = error(
    "ISM0704",
    "A required field is missing.",
    "The object says too little to act on.",
    "Add the field.",
)
OUT_OF_BOUNDS = error(
    "ISM0705",
    "A number, a length or a count is out of bounds.",
    "An API server refuses it, or Envoy would.",
    "Keep it within the bounds that are named.",
)
UNKNOWN_VALUE = error(
    "ISM0706",
    "A value is none of those that its field knows.",
    "Nothing is done for a value that nobody knows.",
    "Use one of those that are named.",
)
EXCLUDE_EACH_OTHER = error(
    "ISM0707",
    "Fields are set that exclude each other.",
    "It is not clear which of them is meant.",
    "Keep one of them.",
)
NOT_A_DURATION = error(
    "ISM0708",
    "A value is not a duration, or not one that can be used.",
    "Envoy counts in milliseconds, and not below one.",
    "Write it like 1.5s, 300ms or 1m30s.",
)
MALFORMED = error(
    "ISM0709",
    "A text does not have the form that its field needs.",
    "The object is refused.",
    "Write it in the form that is named.",
)
NULL = error(
    "ISM0710",
    "An entry of a list or a mapping is null.",
    "Null says nothing, so the entry has no meaning.",
    "Give it a value, or leave the entry out.",
)
NOT_A_HOST = error(
    "ISM0711",
    "A text is not a host name that can be used here.",
    "Nothing answers to such a name.",
    "Use a DNS name; a wildcard may only be its whole first label or begin it.",
)
NOT_A_NAME = error(
    "ISM0712",
    "A text is not a name of this kind.",
    "Names of objects, subsets and ports are DNS labels.",
    "Use lower-case letters, digits and dashes, at most 63 of them.",
)
NOT_AN_ADDRESS = error(
    "ISM0713",
    "A text is not an address of the kind that is needed.",
    "Nobody can be reached, or matched, by it.",
    "Write an IP address or a CIDR; a unix socket as unix:///absolute/path.",
)
BAD_PORT = error(
    "ISM0714",
    "A port cannot be used.",
    "Ports are numbers from 1 to 65535, with a protocol that proxies know.",
    "Correct its number, name or protocol.",
)
BAD_LABEL = error(
    "ISM0715",
    "A label or a selector cannot match anything.",
    "Kubernetes labels have a fixed form, and selectors compare them as they are written.",
    "Write labels as Kubernetes has them, without wildcards.",
)
BAD_VISIBILITY = error(
    "ISM0716",
    "A list of namespaces to export to is contradictory.",
    "It decides who sees the object.",
    "Use namespaces and `.`, or `*` alone, or `~` alone where it is allowed.",
)
BAD_TARGET = error(
    "ISM0717",
    "A policy targets something that policies cannot be bound to.",
    "It would apply to nothing.",
    "Target a Gateway, Service or ServiceEntry of the policy's own namespace.",
)
BAD_REGEX = error(
    "ISM0718",
    "A text is not a regular expression.",
    "Envoy (RE2) would refuse the configuration.",
    "Correct the expression; RE2 has no look-around and no back references.",
)
BAD_EXPRESSION = error(
    "ISM0738",
    "A text is not an expression that Envoy takes.",
    "Envoy would refuse the listener, so the log is not kept.",
    "Write CEL without loops and messages, with the functions that Envoy has (docs/telemetry.md).",
)
LEFT_OUT = warning(
    "ISM0739",
    "The control plane would leave a part of the object out.",
    "This version cannot do it, or Envoy would refuse it with everything that stands beside it. The rest of the object counts.",
    "Write the part that is named without it.",
)
TWICE = error(
    "ISM0719",
    "Something is given twice that must be unique.",
    "Only one of the two can count.",
    "Keep one of them, or give the other another name.",
)
SAYS_NOTHING = error(
    "ISM0720",
    "A part is there, but says nothing.",
    "It is likely that something was forgotten.",
    "Fill it, or leave it out.",
)
CONTRADICTION = error(
    "ISM0721",
    "Two parts contradict each other.",
    "Both cannot be done.",
    "Keep the one that is meant.",
)
NEEDS = error(
    "ISM0722",
    "A setting needs another one that is not there.",
    "Alone it cannot be done.",
    "Add what is named.",
)
BAD_CREDENTIALS = error(
    "ISM0723",
    "TLS settings lack what they need, or have it twice.",
    "A TLS connection would fail or be less safe than it looks.",
    "Give exactly one source of certificates, as the mode requires.",
)
BAD_HEADER = error(
    "ISM0724",
    "A header has a name or a value that Envoy refuses.",
    "One such header makes Envoy refuse the whole route configuration.",
    "Use a header name; write a percent sign in a value as %%.",
)
BAD_WEIGHTS = error(
    "ISM0725",
    "Weights do not add up.",
    "Traffic is shared out in proportion to them.",
    "Use weights above 0, with the sum that is named.",
)
BAD_URL = error(
    "ISM0726",
    "A text is not a URL that can be fetched.",
    "What it points to is never found.",
    "Write scheme, host and path, with a scheme that is named.",
)
BAD_LOCALITY = error(
    "ISM0727",
    "A locality rule cannot be followed.",
    "Localities are region/zone/subzone; every rule needs a place of its own.",
    "Correct the locality that is named.",
)
BAD_KEYS = error(
    "ISM0728",
    "A key set or a certificate cannot be read.",
    "What it should prove is never accepted.",
    "Paste the whole document: a JWKS as JSON, certificates as PEM.",
)
BAD_STATUS = error(
    "ISM0729",
    "A number is not a status of this kind.",
    "Callers would get an answer that HTTP does not have.",
    "Use a status of HTTP that fits.",
)
NOT_DONE_HERE = error(
    "ISM0730",
    "A field cannot be used in this place.",
    "It would be ignored without a word.",
    "Leave it out, or write it where it counts.",
)
HAS_NO_EFFECT = warning(
    "ISM0731",
    "A setting has no effect.",
    "The object is accepted, but does not do what it seems to say.",
    "Leave it out, or add what makes it count.",
)
RISKY = warning(
    "ISM0732",
    "A setting does what it says, which is seldom what is meant.",
    "The object is accepted; look twice at what it does.",
    "Confirm it, or write what is meant.",
)
OUTDATED = warning(
    "ISM0733",
    "A field is outdated.",
    "It still works, but its replacement says more and stays.",
    "Use the field that is named.",
)
NOT_CHECKED = info(
    "ISM0734",
    "Objects of this kind are not checked.",
    "Isthmus does not read them, so it knows no rules for them.",
    "Nothing, if the kind belongs to another program; else correct apiVersion and kind.",
)
BAD_TRUST_DOMAIN = error(
    "ISM0735",
    "A text is not a trust domain.",
    "Identities would not be valid SPIFFE IDs.",
    "Use a name like a DNS name, in lower case.",
)
BAD_NETWORK = error(
    "ISM0736",
    "A network of MeshNetworks lacks endpoints or gateways.",
    "Without both, nobody is in it or nobody gets into it.",
    "Give it at least one entry of endpoints and one of gateways.",
)
UNREACHABLE_RULE = warning(
    "IST0130",
    "A rule is never used.",
    "Earlier rules take every request that it could match, so its destinations get nothing.",
    "Move it before them, make its match more specific than theirs, or delete it.",
)
INEFFECTIVE_MATCH = info(
    "IST0131",
    "A match is never used.",
    "An earlier match takes every request that it could take.",
    "Delete it, or move it before the other one.",
)
NOT_READ = info(
    "ISM0737",
    "A field is not read by this version.",
    "It belongs to the API and is kept, but nothing is done about it.",
    "Know that it has no effect here, or leave it out.",
)
