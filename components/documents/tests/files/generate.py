"""Makes the files of this folder that Python packages make; README.md says which, and how the others are made."""

import datetime

import docx
from fpdf import FPDF
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfgen import canvas
from reportlab.platypus import ListFlowable, ListItem, PageBreak, Paragraph, SimpleDocTemplate, Table

TITLE = "Report on tides"
ENGLISH = (
    "The tide rises and falls twice a day. It is moved by the moon, and to a lesser degree by the sun; where the "
    "two pull together, the tide is highest, and sailors call it a spring tide."
)
UKRAINIAN = "Приплив піднімається двічі на добу. Його рухає місяць."
ARABIC = "يرتفع المد مرتين في اليوم. القمر يحركه."
CHINESE = "潮水每天涨落两次。月亮推动它。"
HINDI = "ज्वार दिन में दो बार उठता है। चाँद उसे चलाता है।"
ITEMS = ["High water at six in the morning", "Low water at noon"]
ROWS = [["Port", "Height"], ["Brest", "6.9 m"]]
DATE = datetime.datetime(2000, 1, 1, tzinfo=datetime.timezone.utc)
FONTS = "/usr/share/fonts/truetype/"


def reportlab_pdf():
    style = getSampleStyleSheet()
    items = [ListItem(Paragraph(item, style["Normal"])) for item in ITEMS]
    SimpleDocTemplate("reportlab.pdf", title=TITLE, invariant=1).build([
        Paragraph(TITLE, style["Title"]),
        Paragraph(ENGLISH, style["Normal"]),
        Paragraph("Observations", style["Heading2"]),
        ListFlowable(items, bulletType="bullet"),
        Table(ROWS),
        PageBreak(),
        Paragraph("Second page", style["Heading1"]),
        Paragraph("It has a page of its own.", style["Normal"]),
    ])


def cid_pdf():
    pdfmetrics.registerFont(UnicodeCIDFont("STSong-Light"))
    page = canvas.Canvas("cid.pdf", invariant=1)
    page.setTitle("潮水")
    page.setFont("STSong-Light", 14)
    page.drawString(72, 700, CHINESE)
    page.save()


def fpdf2_pdf():
    pdf = FPDF()
    pdf.set_title("Мови")
    for name, font, text in [
        ("latin", FONTS + "dejavu/DejaVuSans.ttf", UKRAINIAN),
        ("arabic", FONTS + "dejavu/DejaVuSans.ttf", ARABIC),
        ("chinese", FONTS + "droid/DroidSansFallbackFull.ttf", CHINESE),
        ("hindi", FONTS + "lohit-devanagari/Lohit-Devanagari.ttf", HINDI),
    ]:
        pdf.add_page()
        pdf.add_font(name, "", font)
        pdf.set_font(name, size=14)
        pdf.set_text_shaping(True)
        pdf.multi_cell(0, 8, text)
    pdf.set_creation_date(DATE)
    pdf.output("fpdf2.pdf")


def python_docx():
    document = docx.Document()
    document.core_properties.title = TITLE
    document.core_properties.created = document.core_properties.modified = DATE.replace(tzinfo=None)
    document.add_heading(TITLE, 0)
    document.add_paragraph(ENGLISH)
    document.add_heading("Languages", 1)
    for text in (UKRAINIAN, ARABIC, CHINESE, HINDI):
        document.add_paragraph(text)
    document.add_heading("Observations", 2)
    for item, style in zip(ITEMS, ("List Bullet", "List Number")):
        document.add_paragraph(item, style=style)
    document.add_paragraph("Time and tide wait for no man.", style="Quote")
    table = document.add_table(2, 2)
    for row, cells in enumerate(ROWS):
        for column, cell in enumerate(cells):
            table.cell(row, column).text = cell
    document.save("python-docx.docx")


if __name__ == "__main__":
    reportlab_pdf()
    cid_pdf()
    fpdf2_pdf()
    python_docx()
