CREATE DATABASE mlflow OWNER stillroom;
