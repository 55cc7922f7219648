// Sets the page in motion.
for (const root of document.querySelectorAll("[data-axis]")) plots(root);
for (const root of document.querySelectorAll(".reading")) reading(root);
