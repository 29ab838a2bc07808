"""The shop's own desk at /admin/."""

from django.contrib import admin
from django.utils.html import format_html

from .live import stock
from .models import Category, Order, OrderLine, Photo, Product

admin.site.site_header = "Bandstand Music"
admin.site.site_title = "Bandstand Music"
admin.site.index_title = "Behind the counter"


@admin.register(Category)
class CategoryAdmin(admin.ModelAdmin):
    list_display = ["name", "tagline", "position"]
    list_editable = ["position"]
    prepopulated_fields = {"slug": ["name"]}


@admin.register(Product)
class ProductAdmin(admin.ModelAdmin):
    list_display = ["thumbnail", "name", "maker", "category", "price", "stock", "added"]
    list_display_links = ["thumbnail", "name"]
    list_editable = ["price", "stock"]
    list_filter = ["category", "added"]
    list_select_related = ["category"]
    list_per_page = 50
    search_fields = ["name", "maker"]
    prepopulated_fields = {"slug": ["name"]}

    def save_model(self, request, product: Product, form, change: bool) -> None:
        super().save_model(request, product, form, change)
        if "stock" in form.changed_data:
            stock.changed([product.pk])

    @admin.display(description="")
    def thumbnail(self, product: Product) -> str:
        if not product.picture:
            return ""
        return format_html('<img src="{}" alt="" width="44" height="44" style="border-radius:6px">', product.picture.url)


@admin.register(Photo)
class PhotoAdmin(admin.ModelAdmin):
    list_display = ["product", "user", "caption", "created"]
    list_select_related = ["product", "user"]
    raw_id_fields = ["product", "user"]


class OrderLineInline(admin.TabularInline):
    model = OrderLine
    extra = 0
    raw_id_fields = ["product"]


@admin.register(Order)
class OrderAdmin(admin.ModelAdmin):
    list_display = ["reference", "name", "city", "country", "total", "created"]
    list_filter = ["country", "created"]
    search_fields = ["reference", "name", "email"]
    date_hierarchy = "created"
    readonly_fields = ["reference"]
    raw_id_fields = ["user"]
    inlines = [OrderLineInline]
