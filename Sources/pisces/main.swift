print("pisces")
