"""Checksums of identity, card and account numbers, which tell them from any other digits.

Written out here, each in a few lines, from the issuers' published rules: the library that collects
them, python-stdnum, is under the LGPL.
"""

from __future__ import annotations

_DNI = "TRWAGMYFPDXBNJZSQVHLCKE"
_HETU = "0123456789ABCDEFHJKLMNPRSTUVWXY"
#: Values of the characters at odd places of an Italian codice fiscale, in the order 0-9 (= A-J), A-Z.
_ODD = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)
#: Verhoeff's multiplication in the dihedral group D5 and his permutation.
_D5 = (
    "0123456789", "1234067895", "2340178956", "3401289567", "4012395678",
    "5987604321", "6598710432", "7659821043", "8765932104", "9876543210",
)  # fmt: skip
_PERMUTED = (
    "0123456789", "1576283094", "5803796142", "8916043527",
    "9453126870", "4286573901", "2793806415", "7046913258",
)  # fmt: skip


def digits(text: str) -> str:
    """The ASCII digits of a text."""
    return "".join(c for c in text if c in "0123456789")


def luhn(number: str) -> bool:
    """Luhn's formula (ISO/IEC 7812-1), for payment cards and Swedish personal numbers."""
    total = 0
    for at, char in enumerate(reversed(number)):
        value = int(char) * (1 + at % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def card(number: str) -> bool:
    """A payment card: an issuer's prefix with a length that it uses, and Luhn."""
    size, two = len(number), int(number[:2] or 0)
    known = (
        (size in (13, 16, 19) and number[0] == "4")
        or (size == 16 and (51 <= two <= 55 or 2221 <= int(number[:4]) <= 2720))
        or (size == 15 and two in (34, 37))
        or (size in (16, 19) and (number[:4] == "6011" or two in (62, 65) or number[:4] in ("3528", "3589")))
        or (size == 14 and two in (30, 36, 38))
    )
    return known and len(set(number)) > 1 and luhn(number)


def iban(text: str) -> bool:
    """An IBAN (ISO 13616): its letters are worth 10 to 35, and the whole is 1 modulo 97."""
    plain = "".join(text.split()).upper()
    if not 15 <= len(plain) <= 34:
        return False
    return int("".join(str(int(char, 36)) for char in plain[4:] + plain[:4])) % 97 == 1


def nhs(number: str) -> bool:
    """An NHS number of England, Wales and the Isle of Man: modulo 11 over ten digits."""
    if len(number) != 10:
        return False
    check = -sum(int(char) * (10 - at) for at, char in enumerate(number[:9])) % 11
    return check == int(number[9]) and len(set(number)) > 2


def aadhaar(number: str) -> bool:
    """An Indian Aadhaar number: Verhoeff's scheme over twelve digits."""
    check = 0
    for at, char in enumerate(reversed(number)):
        check = int(_D5[check][int(_PERMUTED[at % 8][int(char)])])
    return len(number) == 12 and check == 0


def cpf(number: str) -> bool:
    """A Brazilian CPF: two check digits modulo 11."""
    for size in (9, 10):
        total = sum(int(char) * (size + 1 - at) for at, char in enumerate(number[:size]))
        if total * 10 % 11 % 10 != int(number[size]):
            return False
    return len(set(number)) > 1


def rut(text: str) -> bool:
    """A Chilean RUT: modulo 11, where 10 is written K."""
    body = digits(text[:-1])
    total = sum(int(char) * (2 + at % 6) for at, char in enumerate(reversed(body)))
    return "0123456789K0"[-total % 11 if -total % 11 < 11 else 0] == text[-1].upper()


def ahv(number: str) -> bool:
    """A Swiss AHV number: the check digit of EAN-13."""
    total = sum(int(char) * (3 if at % 2 else 1) for at, char in enumerate(number[:12]))
    return -total % 10 == int(number[12])


def belgian(number: str) -> bool:
    """A Belgian national number: 97 less the rest modulo 97; a 2 goes before it for those born since 2000."""
    body, check = number[:9], int(number[9:])
    return check in (97 - int(body) % 97, 97 - int("2" + body) % 97)


def nir(text: str) -> bool:
    """A French NIR (INSEE number): 97 less the rest modulo 97, with Corsica's 2A and 2B as 19 and 18."""
    plain = "".join(text.split()).upper()
    body = plain[:13].replace("2A", "19").replace("2B", "18")
    return body.isdigit() and plain[13:].isdigit() and 97 - int(body) % 97 == int(plain[13:])


def dni(text: str) -> bool:
    """A Spanish DNI or NIE: a letter for the rest modulo 23; the NIE's X, Y, Z count as 0, 1, 2."""
    plain = text.replace("-", "").replace(" ", "").upper()
    body = plain[:-1].translate(str.maketrans("XYZ", "012"))
    return body.isdigit() and _DNI[int(body) % 23] == plain[-1]


def hetu(text: str) -> bool:
    """A Finnish personal identity code: a character for the rest modulo 31."""
    return _HETU[int(text[:6] + text[7:10]) % 31] == text[10].upper()


def personnummer(number: str) -> bool:
    """A Swedish personal number (its last ten digits): a date, and Luhn."""
    return 1 <= int(number[2:4]) <= 12 and 1 <= int(number[4:6]) % 60 <= 31 and luhn(number)


def codice_fiscale(text: str) -> bool:
    """An Italian codice fiscale: its last letter follows from the others modulo 26."""
    total = 0
    for at, char in enumerate(text[:15].upper()):
        value = int(char) if char.isdigit() else ord(char) - 65
        total += value if at % 2 else _ODD[value]
    return chr(65 + total % 26) == text[15].upper()


def chinese(text: str) -> bool:
    """A Chinese resident number: ISO 7064 MOD 11-2 over eighteen characters, where 10 is written X."""
    total = sum(int(char) * (2 ** (17 - at) % 11) for at, char in enumerate(text[:17]))
    return "10X98765432"[total % 11] == text[17].upper()
