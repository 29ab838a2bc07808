"""What customers may send, and what is accepted."""

import re
import uuid

from django import forms
from django.core.exceptions import ValidationError

from .cart import MOST
from .models import Order, Photo, Product

PHOTO_BYTES = 5 * 1024 * 1024
"""The largest photo a customer may send."""

POSTCODES = {
    Order.Country.AUSTRIA: r"\d{4}",
    Order.Country.BELGIUM: r"\d{4}",
    Order.Country.FRANCE: r"\d{5}",
    Order.Country.GERMANY: r"\d{5}",
    Order.Country.IRELAND: r"[A-Z]\d[\dW] ?[A-Z\d]{4}",
    Order.Country.ITALY: r"\d{5}",
    Order.Country.NETHERLANDS: r"\d{4} ?[A-Z]{2}",
    Order.Country.SPAIN: r"\d{5}",
}

SIGNATURES = {
    ".png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    ".jpg": re.compile(rb"\xff\xd8\xff"),
    ".gif": re.compile(rb"GIF8[79]a"),
    ".webp": re.compile(rb"RIFF.{4}WEBP", re.DOTALL),
}


class CartForm(forms.Form):
    """One change of the cart: `add` to it, or `set` a quantity (0 takes the product out)."""

    action = forms.ChoiceField(choices=[("add", "add"), ("set", "set")])
    product = forms.ModelChoiceField(Product.objects.all())
    quantity = forms.IntegerField(min_value=0, max_value=MOST)


class CheckoutForm(forms.ModelForm):
    terms = forms.BooleanField(label="I have read the terms, and that nothing here is really for sale")

    class Meta:
        model = Order
        fields = ["name", "email", "address", "postcode", "city", "country", "note"]
        widgets = {
            "name": forms.TextInput(attrs={"autocomplete": "name"}),
            "email": forms.EmailInput(attrs={"autocomplete": "email"}),
            "address": forms.TextInput(attrs={"autocomplete": "street-address"}),
            "postcode": forms.TextInput(attrs={"autocomplete": "postal-code"}),
            "city": forms.TextInput(attrs={"autocomplete": "address-level2"}),
            "country": forms.Select(attrs={"autocomplete": "country"}),
            "note": forms.Textarea(attrs={"rows": 3, "placeholder": "A present? A rehearsal on Friday? Tell us."}),
        }

    def clean(self) -> dict:
        cleaned = super().clean()
        postcode, country = cleaned.get("postcode", "").upper(), cleaned.get("country")
        if postcode and country:
            if not re.fullmatch(POSTCODES[country], postcode):
                self.add_error("postcode", f"This is not a postcode of {Order.Country(country).label}.")
            cleaned["postcode"] = postcode
        return cleaned


class PhotoForm(forms.ModelForm):
    """A photo is known by its first bytes, never by the name or type the browser sent."""

    class Meta:
        model = Photo
        fields = ["picture", "caption"]
        widgets = {"picture": forms.FileInput(attrs={"accept": "image/png,image/jpeg,image/gif,image/webp"})}

    def clean_picture(self):
        picture = self.cleaned_data["picture"]
        if picture.size > PHOTO_BYTES:
            raise ValidationError(f"A photo may have {PHOTO_BYTES // 1024 // 1024} MB; this one has {picture.size / 1024 / 1024:.1f} MB.")
        head = picture.read(16)
        picture.seek(0)
        for suffix, signature in SIGNATURES.items():
            if signature.match(head):
                picture.name = uuid.uuid4().hex + suffix
                return picture
        raise ValidationError("Only PNG, JPEG, GIF and WebP pictures can be shown here.")
